"""Draw: the text-to-image model turns descriptions into images; also every redraw of refined descriptions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ltgc_local.artefacts.files import Artefact, DrawnImage, Images, encode_png
from ltgc_local.backends.protocols import DrawSettings, TextToImageModel
from ltgc_local.errors import BackendError
from ltgc_local.recipe import Recipe
from ltgc_local.records import Description
from ltgc_local.stages.context import Chunk, StageContext, split

FLAT_RANGE = 2  # grey levels: an image whose lightest and darkest pixel differ by less is no picture
MAX_FLAT_TRIES = 3


def plan_chunks(context: StageContext) -> list[Chunk]:
    """Return the descriptions to draw; the existing ones have a photograph already (the released code, too)."""
    (source,) = context.step.reads
    found = context.run.records(source, "descriptions", Description)
    wanted = sorted((d for d in found if d.source != "existing"), key=lambda d: d.key)
    return split(wanted, context.recipe.draw.shard_size)


def run_chunk(context: StageContext, chunk: Sequence[Description]) -> list[Artefact]:
    rows: list[DrawnImage] = []
    for batch in split(chunk, context.recipe.draw.batch_size):
        rows += _draw_batch(context, batch)
        context.progress.advance(len(batch))
    return [Images("images", rows)]


def _draw_batch(context: StageContext, batch: Sequence[Description]) -> list[DrawnImage]:
    recipe, names = context.recipe, context.corpus.class_names
    model: TextToImageModel = context.model
    settings = DrawSettings(recipe.draw.size_px, recipe.draw.steps, recipe.draw.guidance, recipe.draw.negative_prompt)
    seeds = [context.seed("draw", *description.key) for description in batch]
    images = model.draw([description.text for description in batch], seeds, settings)
    for attempt in range(1, MAX_FLAT_TRIES):
        flat = [i for i, image in enumerate(images) if is_flat(image)]
        if not flat:
            break
        for i in flat:
            seeds[i] = context.seed("draw", *batch[i].key, "again", attempt)
        again = model.draw([batch[i].text for i in flat], [seeds[i] for i in flat], settings)
        for i, image in zip(flat, again, strict=True):
            images[i] = image
    for description, image in zip(batch, images, strict=True):
        if is_flat(image):
            raise BackendError(
                f"draw: {MAX_FLAT_TRIES} images of {description.text!r} came out as one flat colour: the VAE overflows "
                "in float16; type --set models.dtype=bfloat16"
            )
    return [
        DrawnImage(
            image=encode_png(to_stored(image, recipe)),
            class_id=description.class_id,
            class_name=names[description.class_id],
            description_id=description.description_id,
            description=description.text,
            round=description.round,
            seed=seed,
        )
        for description, image, seed in zip(batch, images, seeds, strict=True)
    ]


def is_flat(image: Image.Image) -> bool:
    """Return whether an image has no content: black, or what NaN pixels are turned into."""
    levels = np.asarray(image.convert("L"), dtype=np.int16)
    return int(levels.max() - levels.min()) < FLAT_RANGE


def to_stored(image: Image.Image, recipe: Recipe) -> Image.Image:
    """Bring a drawn image to the originals' size and mode, so that neither tells generated from original."""
    size = recipe.draw.stored_size_px or image.width
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return image.convert(recipe.draw.stored_mode)
