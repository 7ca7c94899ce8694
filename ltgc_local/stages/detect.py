"""Detect: CLIP scores each drawn image against its class's template C_y; what a scorer refuses has missed the class.

What is compared, and where that differs from the paper: ``ltgc_local.stages.scorers``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from PIL.Image import Image

from ltgc_local.artefacts.drawn import DrawnRow, read_drawn
from ltgc_local.artefacts.files import Artefact, Json, Lines, decode_png
from ltgc_local.backends.protocols import ClipModel
from ltgc_local.errors import BackendError
from ltgc_local.records import ClassTemplate, Score
from ltgc_local.stages.context import Chunk, StageContext, split
from ltgc_local.stages.scorers import NO_NUMBER, Array, ClassScorer

log = logging.getLogger(__name__)


def plan_chunks(context: StageContext) -> list[Chunk]:
    """Return the drawn images class by class: a threshold belongs to a class."""
    rows = context.run.drawn(context.step.reads[0])
    return [list(of_class) for _, of_class in groupby(rows, key=lambda row: row.class_id)]


def run_chunk(context: StageContext, chunk: Sequence[DrawnRow]) -> list[Artefact]:
    model: ClipModel = context.model
    class_id = chunk[0].class_id
    templates = context.run.records("assess/template", "templates", ClassTemplate)
    templates.sort(key=lambda template: template.class_id)
    texts = _encode_templates(context.model, tuple(template.text for template in templates))  # (C, D)
    photographs = _cosines(model, _photographs(context, class_id), texts[class_id : class_id + 1])[:, 0]  # (n_y,)
    own = np.sort(photographs[~np.isnan(photographs)])
    if len(photographs) and not len(own):
        raise BackendError("assess: CLIP's image features are not numbers; type --set models.dtype=float32")
    scorer = ClassScorer(context.recipe.assess, class_id, own)
    cosines = _cosines(model, _drawings(context, chunk), texts)  # (N, C)
    scores = [scorer.score(row.key, of_image) for row, of_image in zip(chunk, cosines, strict=True)]
    name = context.corpus.class_names[class_id]
    if "percentile" in context.recipe.assess.scorer and not len(scorer.own):
        log.warning(
            "assess: class %r has no training image to take a percentile of; its images are judged by margin_rank %d",
            name,
            context.recipe.assess.margin_rank,
        )
    if without_number := sum(NO_NUMBER in score.failed for score in scores):
        log.warning("assess: CLIP gave no number for %d of %d images of class %r", without_number, len(scores), name)
    return [Json("acceptance", {name: _acceptance(scorer, scores)}), Lines("scores", scores)]


@lru_cache(maxsize=1)
def _encode_templates(model: Any, texts: tuple[str, ...]) -> Array:
    """Encode C_y of every class (C, D), once a process.

    Raises:
        BackendError: CLIP's numbers overflow, so that no image can be scored.
    """
    features: Array = model.encode_texts(texts).numpy()
    if np.isnan(features).any():
        raise BackendError("assess: CLIP's text features are not numbers; type --set models.dtype=float32")
    return features


def _photographs(context: StageContext, class_id: int) -> Iterator[list[Image]]:
    train = context.corpus.train
    for rows in split(np.flatnonzero(train.labels == class_id).tolist(), context.recipe.assess.batch_size):
        yield train.images(rows)


def _drawings(context: StageContext, chunk: Sequence[DrawnRow]) -> Iterator[list[Image]]:
    for rows in split(chunk, context.recipe.assess.batch_size):
        yield [decode_png(drawn.image) for drawn in read_drawn(rows)]
        context.progress.advance(len(rows))


def _cosines(model: ClipModel, batches: Iterable[Sequence[Image]], texts: Array) -> Array:
    """Return the cosines (N, C) of images with texts, one batch of images in memory at a time."""
    parts = [model.encode_images(batch).numpy() @ texts.T for batch in batches]
    return np.concatenate([np.empty((0, len(texts))), *parts])


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
