"""Draw: the text-to-image model turns descriptions into images; also every redraw of refined descriptions.

Differs from the paper, as options: an image may start from a training image of its class instead of from noise alone
(``draw.img2img_strength``); which one is drawn by seed and recorded. And CLIP may be in memory beside the model that
draws (``draw.clip_features``): what it says of each image, as it is stored, is then written beside the shard.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from ltgc_local.backends.clip.pixels import to_pixels
from ltgc_local.backends.images import is_flat, to_stored
from ltgc_local.backends.protocols import ClipModel, Drawing, DrawSettings, TextToImageModel
from ltgc_local.datasets import Corpus
from ltgc_local.errors import BackendError
from ltgc_local.methods.stage import ChunkedStage, Stage, split
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.recipe.generation import Draw
from ltgc_local.records import Description
from ltgc_local.runs.files import Artefact, GeneratedImage, Images, Tensors, encode_png

Row = TypeVar("Row")
Made = tuple[GeneratedImage, np.ndarray | None]  # and its pixels (1, 3, H, W) as the co-resident clip reads them

MAX_FLAT_TRIES = 3
ENCODERS = 8  # threads that resize and encode while the model draws on

log = logging.getLogger(__name__)


class DrawStage(ChunkedStage[LtgcRecipe, Description]):
    """Generates one image per description."""

    def chunks(self) -> list[Sequence[Description]]:
        """Return the descriptions to draw; the existing ones have a photograph already (the released code, too)."""
        found = self.run.records(self.input("descriptions"), "descriptions", Description)
        wanted = sorted((d for d in found if d.source != "existing"), key=lambda d: d.key)
        if self.recipe.draw.img2img_strength is not None:
            with_images = set(self.corpus.train.labels.tolist())
            for class_id in sorted({d.class_id for d in wanted} - with_images):
                name = self.corpus.class_names[class_id]
                log.warning("draw: class %r has no training image to start from; it is drawn from noise alone", name)
        return split(wanted, self.recipe.draw.shard_size)

    def make_chunk(self, chunk: Sequence[Description]) -> list[Artefact]:
        """Draw a chunk; an image without content is drawn again from other noise, and the seed of that is recorded."""
        model: TextToImageModel = self.model
        clip: ClipModel | None = self.co_resident_model
        settings, corpus = draw_settings(self.recipe.draw), self.corpus  # opened here, not by several threads at once

        def source(place: int, attempt: int) -> int | None:
            return source_row(self, chunk[place], attempt)

        def drawings(places: Sequence[int], attempt: int) -> list[Drawing]:
            descriptions = [chunk[place] for place in places]
            return self._drawings(descriptions, [source(place, attempt) for place in places], attempt)

        def row(place: int, drawing: Drawing, image: Image.Image, attempt: int) -> Made:
            return _row(self.recipe.draw, corpus, chunk[place], image, drawing.seed, source(place, attempt), clip)

        made = draw_each(model, settings, len(chunk), drawings, row, self.progress.advance)
        images = Images("images", [image for image, _ in made])
        return [images] if clip is None else [images, _features(clip, made, self.recipe.assess.batch_size)]

    def _drawings(self, batch: Sequence[Description], sources: Sequence[int | None], attempt: int) -> list[Drawing]:
        again = ("again", attempt) if attempt else ()
        rows = [row for row in sources if row is not None]
        photographs = dict(zip(rows, self.corpus.train.images(rows), strict=True)) if rows else {}
        return [
            Drawing(
                description.text,
                self.seed("draw", *description.key, *again),
                None if row is None else photographs[row],
            )
            for description, row in zip(batch, sources, strict=True)
        ]


def draw_each(
    model: TextToImageModel,
    settings: DrawSettings,
    number: int,
    drawings: Callable[[Sequence[int], int], list[Drawing]],
    row: Callable[[int, Drawing, Image.Image, int], Row],
    advance: Callable[[int], None],
) -> list[Row]:
    """Draw ``number`` images, those without content again; return their rows in order.

    Args:
        drawings: places and attempt -> what to draw there; attempts differ in their noise.
        row: place, what was drawn, image and attempt -> the row; called in threads while the model draws on.
        advance: called with 1 for each image that is done.

    Raises:
        BackendError: an image stayed without content.
    """
    rows: dict[int, Future[Row]] = {}
    wanted: list[Drawing] = []
    with ThreadPoolExecutor(ENCODERS) as encoders:
        for attempt in range(MAX_FLAT_TRIES):
            left = [place for place in range(number) if place not in rows]
            if not left:
                break
            wanted = drawings(left, attempt)
            for i, image in model.draw(wanted, settings):
                if not is_flat(image):
                    rows[left[i]] = encoders.submit(row, left[i], wanted[i], image, attempt)
                    advance(1)
    if len(rows) < number:
        first = next(i for i, place in enumerate(left) if place not in rows)
        raise BackendError(
            f"draw: {MAX_FLAT_TRIES} images of {wanted[first].prompt!r} came out as one flat colour: the UNet "
            "overflows (the VAE was tried in float32 too); type --set models.dtype=bfloat16"
        )
    return [rows[place].result() for place in range(number)]


def draw_settings(asked: Draw) -> DrawSettings:
    """Return what the recipe says of every drawing."""
    return DrawSettings(
        asked.size_px,
        asked.steps,
        asked.guidance,
        asked.negative_prompt,
        asked.img2img_strength or 1.0,
        (asked.guidance_from or 0.0, asked.guidance_until or 1.0),
        asked.cache_interval or 1,
        asked.batch_size,
    )


def source_row(stage: Stage[LtgcRecipe], description: Description, attempt: int = 0) -> int | None:
    """Return the row of the training image that a description's image starts from; None: from noise alone.

    Every round and attempt may start from another. A class without training images starts from noise.
    """
    if stage.recipe.draw.img2img_strength is None:
        return None
    rows = np.flatnonzero(stage.corpus.train.labels == description.class_id)
    return int(rows[stage.seed("img2img", *description.key, attempt) % len(rows)]) if len(rows) else None


def _row(
    asked: Draw,
    corpus: Corpus,
    description: Description,
    image: Image.Image,
    seed: int,
    source: int | None,
    clip: ClipModel | None,
) -> Made:
    """Return an image as it is stored, and its pixels (1, 3, H, W) as the clip beside the model reads it."""
    stored = to_stored(image, asked.stored_size_px, asked.stored_mode)
    row = GeneratedImage(
        image=encode_png(stored),
        class_id=description.class_id,
        class_name=corpus.class_names[description.class_id],
        description_id=description.description_id,
        description=description.text,
        round=description.round,
        seed=seed,
        init_image="" if source is None else corpus.train.keys[source],
    )
    return row, None if clip is None else to_pixels([stored], clip.resize)


def _features(clip: ClipModel, made: Sequence[Made], batch_size: int) -> Tensors:
    """Encode what was drawn: unit rows (N, D) with the keys (N, 3) of their images."""
    found = [pixels for _, pixels in made if pixels is not None]
    batches = [torch.from_numpy(np.concatenate(batch)) for batch in split(found, batch_size)]
    try:
        features = torch.cat([clip.encode_pixels(batch) for batch in batches])
    except torch.OutOfMemoryError as problem:
        raise BackendError(
            "draw: the GPU's memory does not hold the clip's work beside the model that draws; type --set "
            "draw.clip_features=false, or lower assess.batch_size"
        ) from problem
    return Tensors("features", {"keys": torch.tensor([row.key for row, _ in made]), "features": features})
