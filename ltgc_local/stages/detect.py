"""Detect: CLIP scores each drawn image against its class's template C_y; below the threshold it has missed the class.

S = Enc_vis(image) . Enc_text(C_y), both of unit length (LTGC, iterative evaluation module). Differs from the paper: the
released code compares cos + 0.5 with mu, which an absolute cosine makes hard to set; the default is a percentile of the
class's own training images against C_y, and optionally a rank among all classes. Every score is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL.Image import Image

from ltgc_local.artefacts.files import Artefact, DrawnImage, Lines, decode_png
from ltgc_local.backends.protocols import ClipModel
from ltgc_local.errors import DataError
from ltgc_local.recipe import Recipe
from ltgc_local.records import ClassTemplate, Score
from ltgc_local.stages.context import Chunk, StageContext, split

OFFSET = 0.5  # the released code's: S = cos + 0.5


def plan_chunks(context: StageContext) -> list[Chunk]:
    """Return the drawn images class by class: a threshold belongs to a class."""
    images = context.run.images(context.step.reads[0])
    class_ids = sorted({image.class_id for image in images})
    return [sorted((i for i in images if i.class_id == class_id), key=lambda i: i.key) for class_id in class_ids]


def run_chunk(context: StageContext, chunk: Sequence[DrawnImage]) -> list[Artefact]:
    model: ClipModel = context.model
    class_id = chunk[0].class_id
    templates = context.run.records("assess/template", "templates", ClassTemplate)
    templates.sort(key=lambda template: template.class_id)
    texts = model.encode_texts([template.text for template in templates])  # (C, D)
    cosines = _encode(context, [decode_png(image.image) for image in chunk]) @ texts.T  # (N, C)
    own_photographs = None
    if context.recipe.assess.scorer == "percentile":
        train = context.corpus.train
        rows = [int(row) for row in np.flatnonzero(train.labels == class_id)]
        if not rows:
            name = context.corpus.class_names[class_id]
            raise DataError(
                f"assess: class {name!r} has no training image, which scorer 'percentile' compares with; "
                "type --set assess.scorer=margin"
            )
        own_photographs = _encode(context, train.images(rows)) @ texts[class_id]  # (n_y,)
    scores = [
        Score(image.class_id, image.description_id, image.round, *judged)
        for image, judged in zip(chunk, score(cosines, class_id, context.recipe, own_photographs), strict=True)
    ]
    context.progress.advance(len(chunk))
    return [Lines("scores", scores)]


def _encode(context: StageContext, images: Sequence[Image]) -> torch.Tensor:
    batches = split(images, context.recipe.assess.batch_size)
    return torch.cat([context.model.encode_images(batch) for batch in batches])


def score(
    cosines: torch.Tensor, class_id: int, recipe: Recipe, own_photographs: torch.Tensor | None
) -> list[tuple[float, float, float, int, bool]]:
    """Return (cosine, score, threshold, rank, accepted) of each image of one class.

    Args:
        cosines: (N, C) of the images with every class's template.
        own_photographs: (n_y,) cosines of the class's training images with C_y; for ``percentile`` only.
    """
    settings = recipe.assess
    own = cosines[:, class_id]  # (N,)
    ranks = (cosines > own[:, None]).sum(1) + 1  # (N,)
    if settings.scorer == "offset":
        scores, threshold = own + OFFSET, settings.threshold
    elif settings.scorer == "cosine":
        scores, threshold = own, settings.threshold
    elif settings.scorer == "percentile":
        assert own_photographs is not None
        scores, threshold = own, float(torch.quantile(own_photographs, settings.percentile / 100))
    else:
        scores, threshold = -ranks.float(), -float(settings.margin_rank)
    passes = scores >= threshold
    if settings.require_rank is not None:
        passes &= ranks <= settings.require_rank
    columns = (own.tolist(), scores.tolist(), [threshold] * len(own), ranks.tolist(), passes.tolist())
    return list(zip(*columns, strict=True))
