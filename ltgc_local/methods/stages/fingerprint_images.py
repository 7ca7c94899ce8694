"""Leak guard, first half: pixels, perceptual hash and embedding of every generated, training and test image.

Not in the paper. Runs on the same data share the originals' fingerprints.
Test images are looked at only to compare them; nothing that is trained reads what this writes.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ltgc_local.backends.clip.pixels import to_pixels
from ltgc_local.backends.protocols import ClipModel
from ltgc_local.evaluation.duplicates import perceptual_hashes, pixel_digests
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.prefetch import map_batches
from ltgc_local.runs.chunk_plan import StepFile
from ltgc_local.runs.files import Artefact, Tensors, decode_png, read_images
from ltgc_local.runs.generated import read_rows

Array = NDArray[Any]


@dataclass(frozen=True)
class ImagePlace:
    """One image: a row of the split ``train`` or ``test``, or of a file of generated images."""

    group: str
    row: int
    path: StepFile | None
    embed: bool


class FingerprintStage(ChunkedStage[Any, ImagePlace]):
    """Fingerprints images wherever they are; the subclasses say which."""

    def make_chunk(self, chunk: Sequence[ImagePlace]) -> list[Artefact]:
        group, path = chunk[0].group, chunk[0].path
        drawn = read_images([path]) if path is not None else []
        part = self.corpus.test if group == "test" else self.corpus.train
        model: ClipModel = self.model

        def look_at(block: Sequence[ImagePlace]) -> tuple[Array, Array, list[Array]]:
            rows = [place.row for place in block]
            images = [decode_png(drawn[row].image) for row in rows] if drawn else part.images(rows)
            chosen = [image for image, place in zip(images, block, strict=True) if place.embed]
            return pixel_digests(images), perceptual_hashes(images), [to_pixels(chosen, model.resize)] if chosen else []

        digests, hashes, embeddings = [], [], []
        with closing(
            map_batches(look_at, split(chunk, self.recipe.leaks.batch_size), self.decode_threads, model.device)
        ) as batches:
            for blocks in batches:
                digests += [digest for digest, _, _ in blocks]
                hashes += [hash_ for _, hash_, _ in blocks]
                if chosen := [pixels for _, _, found in blocks for pixels in found]:
                    embeddings.append(model.encode_pixels(torch.from_numpy(np.concatenate(chosen))).half())
                self.progress.advance(sum(len(digest) for digest, _, _ in blocks))
        tensors = {
            "digest": torch.from_numpy(np.concatenate(digests)),  # (N, 16) uint8
            "hash": torch.from_numpy(np.concatenate(hashes).view(np.int64)),  # (N,)
            "is_embedded": torch.tensor([place.embed for place in chunk]),  # (N,) bool
        }
        if embeddings:
            tensors["embedding"] = torch.cat(embeddings)  # (M, D) float16, of those that are embedded
        return [Tensors(group, tensors)]


class FingerprintOriginals(FingerprintStage):
    """Fingerprints training and test images; of many a seeded sample is embedded."""

    def chunks(self) -> list[Sequence[ImagePlace]]:
        settings = self.recipe.leaks
        chunks: list[Sequence[ImagePlace]] = []
        for part in (self.corpus.train, self.corpus.test):
            sample: Container[int] = range(len(part))
            if settings.max_embedded is not None and len(part) > settings.max_embedded:
                rng = np.random.default_rng(self.seed("leaks", part.name))
                sample = set(rng.choice(len(part), settings.max_embedded, replace=False).tolist())
            places = [ImagePlace(part.name, row, None, row in sample) for row in range(len(part))]
            chunks += split(places, settings.shard_size)
        return chunks


class FingerprintGenerated(FingerprintStage):
    """Fingerprints generated images, a file of them at a time."""

    def chunks(self) -> list[Sequence[ImagePlace]]:
        paths = self.run.files(self.input("generated"), "images")
        return [[ImagePlace("generated", row, path, True) for row in range(len(read_rows([path])))] for path in paths]
