"""Draw: the text-to-image model generates an image from each description; also every redraw of refined descriptions.

Differs from the paper, as options: an image may start from a training image of its class instead of from noise alone
(``draw.img2img_strength``); the seed chooses which, and the choice is recorded. CLIP may share memory with the
text-to-image model (``draw.clip_features``); its features of each image, as stored, are then written next to the shard.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeAlias, TypeVar

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
from ltgc_local.records import Description, parse_lines, parse_some
from ltgc_local.runs.files import Artefact, GeneratedImage, Images, Tensors, encode_png
from ltgc_local.runs.image_keys import KEY, Keys
from ltgc_local.runs.row_index import FileRows, RowIndex

Item = TypeVar("Item")
Made = TypeVar("Made")
Encoded: TypeAlias = "tuple[GeneratedImage, np.ndarray | None]"  # with its pixels (1, 3, H, W) for CLIP, if in memory

MAX_FLAT_TRIES = 3
ENCODERS = 8  # threads that resize and encode images while the model generates the next ones

log = logging.getLogger(__name__)


class GeneratingStage(Stage, Generic[Item, Made]):
    """Generates an image per item with a text-to-image model; images without content are generated again."""

    @abstractmethod
    def drawings(self, items: Sequence[Item], attempt: int) -> list[Drawing]:
        """Return what to generate for each item; attempts differ in their noise."""

    @abstractmethod
    def store(self, item: Item, drawing: Drawing, image: Image.Image, attempt: int) -> Made:
        """Prepare an image for its file; called in threads while the model generates the next ones."""

    def generate(self, items: Sequence[Item], settings: DrawSettings) -> list[Made]:
        """Return what ``store`` makes of each item's image, in order.

        Raises:
            BackendError: an image still has no content after ``MAX_FLAT_TRIES``.
        """
        model: TextToImageModel = self.model
        made: dict[int, Future[Made]] = {}
        wanted: dict[int, Drawing] = {}
        with ThreadPoolExecutor(ENCODERS) as encoders:
            for attempt in range(MAX_FLAT_TRIES):
                left = [place for place in range(len(items)) if place not in made]
                if not left:
                    break
                wanted = dict(zip(left, self.drawings([items[place] for place in left], attempt), strict=True))
                for i, image in model.draw(list(wanted.values()), settings):
                    if not is_flat(image):
                        place = left[i]
                        made[place] = encoders.submit(self.store, items[place], wanted[place], image, attempt)
                        self.progress.advance()
        for place, drawing in wanted.items():
            if place not in made:
                raise BackendError(
                    f"draw: {MAX_FLAT_TRIES} images of {drawing.prompt!r} came out as one flat colour: the UNet "
                    "overflows (the VAE was tried in float32 too); type --set models.dtype=bfloat16"
                )
        return [made[place].result() for place in range(len(items))]


class DrawStage(ChunkedStage[LtgcRecipe, FileRows], GeneratingStage[Description, Encoded]):
    """Generates one image per description; a chunk's items are the places of its descriptions."""

    def chunks(self) -> list[Sequence[FileRows]]:
        """Return the descriptions to draw: not the existing ones, which already have a real image."""
        files = self.run.files(self.input("descriptions"), "descriptions")
        found = [self.run.parse_file(path, _read_keys) for path in files]
        wanted = RowIndex.of(files, [keys for keys, _ in found], [rows for _, rows in found]).sorted()
        if self.recipe.draw.img2img_strength is not None:
            with_images = set(self.corpus.train.labels.tolist())
            for class_id in sorted(set(np.unique(wanted.keys[:, 0]).tolist()) - with_images):
                name = self.corpus.class_names[class_id]
                log.warning(
                    "draw: class %r has no training image to start from; its images start from noise alone", name
                )
        return [part.items() for part in wanted.parts(self.recipe.draw.shard_size)]

    def make_chunk(self, chunk: Sequence[FileRows]) -> list[Artefact]:
        found = [self.run.parse_file(item.path, partial(parse_some, Description, item.rows)) for item in chunk]
        return self.draw(sorted((each for part in found for each in part), key=lambda each: each.key))

    def draw(self, chunk: Sequence[Description]) -> list[Artefact]:
        """Generate the images of some descriptions."""
        clip: ClipModel | None = self.co_resident_model  # loaded here, and not by several threads at once
        made = self.generate(chunk, draw_settings(self.recipe.draw))
        images = Images("images", [image for image, _ in made])
        return [images] if clip is None else [images, self._features(clip, made)]

    def drawings(self, items: Sequence[Description], attempt: int) -> list[Drawing]:
        again = ("again", attempt) if attempt else ()
        rows = [self.source_row(description, attempt) for description in items]
        sources = iter(self.corpus.train.images([row for row in rows if row is not None]))
        return [
            Drawing(
                description.text,
                self.seed("draw", *description.key, *again),
                None if row is None else next(sources),
            )
            for description, row in zip(items, rows, strict=True)
        ]

    def store(self, item: Description, drawing: Drawing, image: Image.Image, attempt: int) -> Encoded:
        stored = to_stored(image, self.recipe.draw.stored_size_px, self.recipe.draw.stored_mode)
        source = self.source_row(item, attempt)
        clip: ClipModel | None = self.co_resident_model
        made = generated_image(self.corpus, item.key, item.text, drawing.seed, source, stored)
        return made, None if clip is None else to_pixels([stored], clip.resize)

    def source_row(self, description: Description, attempt: int = 0) -> int | None:
        """Return the row of the training image that a description's image starts from; None: from noise alone.

        It may differ between rounds and attempts. A class without training images starts from noise.
        """
        if self.recipe.draw.img2img_strength is None:
            return None
        rows = np.flatnonzero(self.corpus.train.labels == description.class_id)
        return int(rows[self.seed("img2img", *description.key, attempt) % len(rows)]) if len(rows) else None

    def _features(self, clip: ClipModel, made: Sequence[Encoded]) -> Tensors:
        """Encode the images: unit rows (N, D) with the keys (N, 3) of their images."""
        batches = split([pixels for _, pixels in made if pixels is not None], self.recipe.assess.batch_size)
        try:
            features = torch.cat([clip.encode_pixels(torch.from_numpy(np.concatenate(batch))) for batch in batches])
        except torch.OutOfMemoryError as problem:
            raise BackendError(
                "draw: the GPU's memory does not hold CLIP's work next to the text-to-image model; type --set "
                "draw.clip_features=false, or lower assess.batch_size"
            ) from problem
        return Tensors("features", {"keys": torch.tensor([row.key for row, _ in made]), "features": features})


def _read_keys(text: str) -> tuple[Keys, np.ndarray]:
    """Return the keys (N, 3) of the descriptions in a file that are to be drawn, and their rows (N,)."""
    found = parse_lines(text.split("\n"))
    rows = [row for row, each in enumerate(found) if each["source"] != "existing"]
    keys = [[found[row][name] for name in KEY] for row in rows]
    return np.array(keys, np.int64).reshape(-1, 3), np.array(rows, np.int64)


def draw_settings(asked: Draw) -> DrawSettings:
    """Return the settings that all images of a recipe share."""
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


def generated_image(
    corpus: Corpus, key: tuple[int, int, int], description: str, seed: int, source: int | None, stored: Image.Image
) -> GeneratedImage:
    """Encode a generated image, with its lineage; ``source`` is the training row behind it, if any."""
    class_id, description_id, round_ = key
    return GeneratedImage(
        image=encode_png(stored),
        class_id=class_id,
        class_name=corpus.class_names[class_id],
        description_id=description_id,
        description=description,
        round=round_,
        seed=seed,
        init_image="" if source is None else corpus.train.keys[source],
    )
