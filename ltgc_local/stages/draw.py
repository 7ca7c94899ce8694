"""Draw: the text-to-image model turns descriptions into images; also every redraw of refined descriptions.

Differs from the paper, as an option (``draw.img2img_strength``): an image may start from a training image of its class
instead of from noise alone. Which one is drawn by seed and recorded.
"""

from __future__ import annotations

import logging
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

log = logging.getLogger(__name__)


def plan_chunks(context: StageContext) -> list[Chunk]:
    """Return the descriptions to draw; the existing ones have a photograph already (the released code, too)."""
    (source,) = context.step.reads
    found = context.run.records(source, "descriptions", Description)
    wanted = sorted((d for d in found if d.source != "existing"), key=lambda d: d.key)
    if context.recipe.draw.img2img_strength is not None:
        with_images = set(context.corpus.train.labels.tolist())
        for class_id in sorted({d.class_id for d in wanted} - with_images):
            name = context.corpus.class_names[class_id]
            log.warning("draw: class %r has no training image to start from; it is drawn from noise alone", name)
    return split(wanted, context.recipe.draw.shard_size)


def run_chunk(context: StageContext, chunk: Sequence[Description]) -> list[Artefact]:
    rows: list[DrawnImage] = []
    for batch in split(chunk, context.recipe.draw.batch_size):
        rows += _draw_batch(context, batch)
        context.progress.advance(len(batch))
    return [Images("images", rows)]


def _draw_batch(context: StageContext, batch: Sequence[Description]) -> list[DrawnImage]:
    recipe, names, train = context.recipe, context.corpus.class_names, context.corpus.train
    seeds = [context.seed("draw", *description.key) for description in batch]
    sources = [source_row(context, description) for description in batch]
    images = _paint(context, batch, seeds, sources)
    for attempt in range(1, MAX_FLAT_TRIES):
        flat = [i for i, image in enumerate(images) if is_flat(image)]
        if not flat:
            break
        for i in flat:
            seeds[i] = context.seed("draw", *batch[i].key, "again", attempt)
            sources[i] = source_row(context, batch[i], attempt)
        again = _paint(context, [batch[i] for i in flat], [seeds[i] for i in flat], [sources[i] for i in flat])
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
            init_image="" if source is None else train.keys[source],
        )
        for description, image, seed, source in zip(batch, images, seeds, sources, strict=True)
    ]


def source_row(context: StageContext, description: Description, attempt: int = 0) -> int | None:
    """Return the row of the training image that a description's image starts from; None: from noise alone.

    Every round and attempt may start from another. A class without training images starts from noise.
    """
    if context.recipe.draw.img2img_strength is None:
        return None
    rows = np.flatnonzero(context.corpus.train.labels == description.class_id)
    return int(rows[context.seed("img2img", *description.key, attempt) % len(rows)]) if len(rows) else None


def _paint(
    context: StageContext, batch: Sequence[Description], seeds: Sequence[int], sources: Sequence[int | None]
) -> list[Image.Image]:
    """Draw a batch, each image from its source or from noise."""
    model: TextToImageModel = context.model
    asked = context.recipe.draw
    settings = DrawSettings(
        asked.size_px, asked.steps, asked.guidance, asked.negative_prompt, asked.img2img_strength or 1.0
    )
    images: dict[int, Image.Image] = {}
    from_noise = [i for i, source in enumerate(sources) if source is None]
    if from_noise:
        drawn = model.draw([batch[i].text for i in from_noise], [seeds[i] for i in from_noise], settings)
        images |= zip(from_noise, drawn, strict=True)
    from_image = {i: source for i, source in enumerate(sources) if source is not None}
    if from_image:
        photographs = context.corpus.train.images(from_image.values())
        texts, noise = [batch[i].text for i in from_image], [seeds[i] for i in from_image]
        images |= zip(from_image, model.draw_from(photographs, texts, noise, settings), strict=True)
    return [images[i] for i in range(len(batch))]


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
