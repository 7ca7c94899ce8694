"""Detect: CLIP scores each generated image against its class's template C_y; the scorers decide which have missed it.

What is compared, and where that differs from the paper: ``ltgc_local.methods.ltgc.scorers``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ltgc_local.backends.clip.pixels import to_pixels
from ltgc_local.backends.protocols import ClipModel
from ltgc_local.errors import BackendError
from ltgc_local.methods.ltgc.scorers import NO_NUMBER, Array, ClassScorer, ranks_among
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.prefetch import map_batches, prefetch
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import ClassTemplate
from ltgc_local.runs.files import Artefact, GeneratedImage, Json, Lines, decode_png
from ltgc_local.runs.generated import GeneratedRow, read_features, read_generated, read_rows
from ltgc_local.runs.row_index import FileRows

log = logging.getLogger(__name__)


class DetectStage(ChunkedStage[LtgcRecipe, FileRows]):
    """Scores the generated images of one class per chunk, because thresholds are set per class."""

    def chunks(self) -> list[Sequence[FileRows]]:
        return [of_class.items() for of_class in self.run.index(self.input("images")).by_class()]

    def make_chunk(self, chunk: Sequence[FileRows]) -> list[Artefact]:
        rows = read_rows(chunk)
        class_id = rows[0].class_id
        real, ranks, generated = self._cosines(class_id, rows)
        are_numbers = ~np.isnan(real)
        own = np.sort(real[are_numbers])
        if len(real) and not len(own):
            raise _overflow("image")
        scorer = ClassScorer(self.recipe.assess, class_id, own, np.sort(ranks[are_numbers]))
        scores = [scorer.score(row.key, cosines) for row, cosines in zip(rows, generated, strict=True)]
        name = self.corpus.class_names[class_id]
        if scorer.lacks_images:
            log.warning(
                "assess: class %r has no training image to take a percentile of; its images are judged by "
                "margin_rank %d",
                name, scorer.margin_rank,
            )  # fmt: skip
        if unscored := sum(NO_NUMBER in score.failed for score in scores):
            log.warning("assess: CLIP gave no number for %d of %d images of class %r", unscored, len(scores), name)
        acceptance = {
            "round": scores[0].round,
            "drawn": len(scores),
            "accepted": sum(score.accepted for score in scores),
            "failed": dict(Counter(failed for score in scores for failed in score.failed)),
            "scorers": list(scorer.names),
            "threshold": scorer.threshold,
            "margin_rank": scorer.margin_rank if "margin" in scorer.names else None,
            "photographs": len(own),
        }
        return [Json("acceptance", {name: acceptance}), Lines("scores", scores)]

    @cached_property
    def _texts(self) -> Array:
        """C_y of every class, encoded, (C, D).

        Raises:
            BackendError: CLIP's numbers overflow, so no image can be scored.
        """
        model: ClipModel = self.model
        templates = self.run.records(self.input("templates"), "templates", ClassTemplate)
        texts = [template.text for template in sorted(templates, key=lambda template: template.class_id)]
        features: Array = model.encode_texts(texts).numpy()
        if np.isnan(features).any():
            raise _overflow("text")
        return features

    def _cosines(self, class_id: int, rows: Sequence[GeneratedRow]) -> tuple[Array, NDArray[np.int64], Array]:
        """Return cosines with the classes' texts.

        These are the cosines of a class's real images with its own text (n_y,), the ranks of that text among all texts
        for the same images (n_y,), and the cosines of its generated images with all texts (N, C).

        Images are decoded and resized in threads, while a GPU encodes the previous ones. Generated images that were
        encoded when they were generated (``draw.clip_features``) are not read at all.
        """
        model: ClipModel = self.model
        train, texts, size = self.corpus.train, self._texts, self.recipe.assess.batch_size
        real = split(np.flatnonzero(train.labels == class_id).tolist(), size)
        are_encoded = self.recipe.draw.clip_features

        def pixels(block: Sequence[Any]) -> NDArray[np.uint8]:
            are_generated = isinstance(block[0], GeneratedImage)
            images = [decode_png(each.image) for each in block] if are_generated else train.images(block)
            return to_pixels(images, model.resize)

        of_real, ranks, of_generated = [np.empty(0)], [np.empty(0, np.int64)], [np.empty((0, len(texts)))]
        to_read = [] if are_encoded else split(rows, size)
        with (
            closing(prefetch(read_generated, to_read, workers=1, ahead=1)) as generated,
            closing(map_batches(pixels, chain(real, generated), self.decode_threads, model.device)) as decoded,
        ):
            for number, blocks in enumerate(decoded):
                features: Array = model.encode_pixels(torch.from_numpy(np.concatenate(blocks))).numpy()
                if number < len(real):
                    # A product of its own, so that the threshold's last bits do not depend on the other classes.
                    of_real.append((features @ texts[class_id : class_id + 1].T)[:, 0])
                    ranks.append(ranks_among(features @ texts.T, class_id))
                else:
                    of_generated.append(features @ texts.T)
                    self.progress.advance(len(features))
        if are_encoded:
            of_generated.append(read_features(rows, self.run) @ texts.T)
            self.progress.advance(len(rows))
        return np.concatenate(of_real), np.concatenate(ranks), np.concatenate(of_generated)


def _overflow(tower: str) -> BackendError:
    return BackendError(f"assess: CLIP's {tower} features are not numbers; type --set models.dtype=float32")
