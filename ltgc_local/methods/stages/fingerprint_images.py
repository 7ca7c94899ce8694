"""Leak guard, first half: pixels, perceptual hash and embedding of every generated, training and test image.

Not in the paper. Runs on the same data share the originals' fingerprints.
Test images are looked at only to compare them; nothing that is trained reads what this writes.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from ltgc_local.runs.arrays import count_rows
from ltgc_local.runs.chunk_plan import StepFile
from ltgc_local.runs.files import Artefact, Tensors, decode_png, read_images

Array = NDArray[Any]


@dataclass(frozen=True)
class ImageSpan:
    """Images next to each other: rows of the split ``train`` or ``test``, or of a file of generated images.

    Attributes:
        end: the row after the last.
        embedded: the rows whose images are embedded; None for all.
    """

    group: str
    path: StepFile | None
    start: int
    end: int
    embedded: tuple[int, ...] | None = None

    @property
    def num_items(self) -> int:
        return self.end - self.start


class FingerprintStage(ChunkedStage[Any, ImageSpan]):
    """Fingerprints images wherever they are; the subclasses say which. A chunk is one span."""

    def make_chunk(self, chunk: Sequence[ImageSpan]) -> list[Artefact]:
        (span,) = chunk
        group, path = span.group, span.path
        drawn = read_images([path]) if path is not None else []
        part = self.corpus.test if group == "test" else self.corpus.train
        model: ClipModel = self.model
        places = range(len(drawn) if path is not None else len(part))[span.start : span.end]
        is_embedded = set(places if span.embedded is None else span.embedded)

        def look_at(block: Sequence[int]) -> tuple[Array, Array, list[Array]]:
            images = [decode_png(drawn[row].image) for row in block] if drawn else part.images(block)
            chosen = [image for image, row in zip(images, block, strict=True) if row in is_embedded]
            return pixel_digests(images), perceptual_hashes(images), [to_pixels(chosen, model.resize)] if chosen else []

        digests, hashes, embeddings = [], [], []
        with closing(
            map_batches(look_at, split(places, self.recipe.leaks.batch_size), self.decode_threads, model.device)
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
            "is_embedded": torch.tensor([row in is_embedded for row in places]),  # (N,) bool
        }
        if embeddings:
            tensors["embedding"] = torch.cat(embeddings)  # (M, D) float16, of those that are embedded
        return [Tensors(group, tensors)]


class FingerprintOriginals(FingerprintStage):
    """Fingerprints training and test images; of many a seeded sample is embedded."""

    def chunks(self) -> list[Sequence[ImageSpan]]:
        settings = self.recipe.leaks
        chunks: list[Sequence[ImageSpan]] = []
        for part in (self.corpus.train, self.corpus.test):
            sample: Array | None = None
            if settings.max_embedded is not None and len(part) > settings.max_embedded:
                rng = np.random.default_rng(self.seed("leaks", part.name))
                sample = np.sort(rng.choice(len(part), settings.max_embedded, replace=False))
            for rows in split(range(len(part)), settings.shard_size):
                start, end = rows[0], rows[-1] + 1
                chosen = None if sample is None else sample[slice(*np.searchsorted(sample, [start, end]))]
                embedded = None if chosen is None else tuple(chosen.tolist())
                chunks.append([ImageSpan(part.name, None, start, end, embedded)])
        return chunks


class FingerprintGenerated(FingerprintStage):
    """Fingerprints generated images, a file of them at a time."""

    def chunks(self) -> list[Sequence[ImageSpan]]:
        paths = self.run.files(self.input("generated"), "images")
        return [[ImageSpan("generated", path, 0, count_rows(path))] for path in paths]
