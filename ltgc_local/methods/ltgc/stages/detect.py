"""Detect: CLIP scores each drawn image against its class's template C_y; what a scorer refuses has missed the class.

What is compared, and where that differs from the paper: ``ltgc_local.methods.ltgc.scorers``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from itertools import chain, groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ltgc_local.backends.clip.pixels import to_pixels
from ltgc_local.backends.protocols import ClipModel
from ltgc_local.errors import BackendError
from ltgc_local.methods.ltgc.scorers import NO_NUMBER, Array, ClassScorer
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.prefetch import map_batches, prefetch
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import ClassTemplate, Score
from ltgc_local.runs.files import Artefact, GeneratedImage, Json, Lines, decode_png
from ltgc_local.runs.generated import GeneratedRow, read_features, read_generated

log = logging.getLogger(__name__)


class DetectStage(ChunkedStage[LtgcRecipe, GeneratedRow]):
    """Scores the images of one class per chunk: a threshold belongs to a class."""

    def chunks(self) -> list[Sequence[GeneratedRow]]:
        """Return the drawn images class by class: a threshold belongs to a class."""
        source = self.input("images")
        rows = self.run.generated(source)
        if self.recipe.draw.clip_features:
            self.run.files(source, "features")  # refuses one that is missing or cut short
        return [list(of_class) for _, of_class in groupby(rows, key=lambda row: row.class_id)]

    def make_chunk(self, chunk: Sequence[GeneratedRow]) -> list[Artefact]:
        class_id = chunk[0].class_id
        texts = self._texts  # (C, D)
        photographs, cosines = self._cosines(class_id, chunk, texts)
        own = np.sort(photographs[~np.isnan(photographs)])
        if len(photographs) and not len(own):
            raise BackendError("assess: CLIP's image features are not numbers; type --set models.dtype=float32")
        scorer = ClassScorer(self.recipe.assess, class_id, own)
        scores = [scorer.score(row.key, of_image) for row, of_image in zip(chunk, cosines, strict=True)]
        name = self.corpus.class_names[class_id]
        if "percentile" in self.recipe.assess.scorer and not len(scorer.own):
            log.warning(
                "assess: class %r has no training image to take a percentile of; its images are judged by "
                "margin_rank %d",
                name,
                self.recipe.assess.margin_rank,
            )
        if without_number := sum(NO_NUMBER in score.failed for score in scores):
            log.warning(
                "assess: CLIP gave no number for %d of %d images of class %r", without_number, len(scores), name
            )
        return [Json("acceptance", {name: _acceptance(scorer, scores)}), Lines("scores", scores)]

    @cached_property
    def _texts(self) -> Array:
        """Encode C_y of every class (C, D).

        Raises:
            BackendError: CLIP's numbers overflow, so that no image can be scored.
        """
        model: ClipModel = self.model
        templates = self.run.records(self.input("templates"), "templates", ClassTemplate)
        texts = [template.text for template in sorted(templates, key=lambda template: template.class_id)]
        features: Array = model.encode_texts(texts).numpy()
        if np.isnan(features).any():
            raise BackendError("assess: CLIP's text features are not numbers; type --set models.dtype=float32")
        return features

    def _cosines(self, class_id: int, chunk: Sequence[GeneratedRow], texts: Array) -> tuple[Array, Array]:
        """Return the cosines of a class's photographs with its text (n_y,), and of its drawn images with all (N, C).

        Images are decoded and resized in threads, on a GPU the next ones while it encodes these. Drawn images that were
        encoded when they were drawn (``draw.clip_features``) are not read at all.
        """
        model: ClipModel = self.model
        train, size = self.corpus.train, self.recipe.assess.batch_size
        photographs = split(np.flatnonzero(train.labels == class_id).tolist(), size)
        known = self.recipe.draw.clip_features
        drawings = [] if known else split(chunk, size)

        def pixels(block: Sequence[Any]) -> NDArray[np.uint8]:
            are_drawn = isinstance(block[0], GeneratedImage)
            images = [decode_png(drawn.image) for drawn in block] if are_drawn else train.images(block)
            return to_pixels(images, model.resize)

        of_photographs, of_drawings = [np.empty(0)], [np.empty((0, len(texts)))]
        with closing(prefetch(read_generated, drawings, workers=1, ahead=1)) as drawn:
            batches = chain(photographs, drawn)
            with closing(map_batches(pixels, batches, self.decode_threads, model.device)) as decoded:
                for number, blocks in enumerate(decoded):
                    found: Array = model.encode_pixels(torch.from_numpy(np.concatenate(blocks))).numpy()
                    if number < len(photographs):
                        of_photographs.append((found @ texts[class_id : class_id + 1].T)[:, 0])
                    else:
                        of_drawings.append(found @ texts.T)
                        self.progress.advance(len(found))
        if known:
            of_drawings.append(read_features(chunk) @ texts.T)
            self.progress.advance(len(chunk))
        return np.concatenate(of_photographs), np.concatenate(of_drawings)


def _acceptance(scorer: ClassScorer, scores: Sequence[Score]) -> dict[str, Any]:
    """Return what became of a class's images in this round, for people and scripts."""
    return {
        "round": scores[0].round,
        "drawn": len(scores),
        "accepted": sum(score.accepted for score in scores),
        "failed": dict(Counter(name for score in scores for name in score.failed)),
        "scorers": list(scorer.names),
        "threshold": scorer.threshold,
        "photographs": len(scorer.own),
    }
