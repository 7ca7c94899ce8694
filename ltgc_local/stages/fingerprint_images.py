"""Leak guard, first half: pixels, perceptual hash and embedding of every generated, training and test image.

A step that reads ``generated`` does its images; one that reads nothing does the originals, which runs on the same data
share.
Not in the paper. Test images are looked at only to compare them; nothing that is trained reads what this writes.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ltgc_local.artefacts.drawn import read_rows
from ltgc_local.artefacts.files import Artefact, Tensors, decode_png, read_images
from ltgc_local.backends.protocols import ClipModel
from ltgc_local.duplicates import perceptual_hashes, pixel_digests
from ltgc_local.stages.context import Chunk, StageContext, split


@dataclass(frozen=True)
class ImagePlace:
    """One image: a row of the split ``train`` or ``test``, or of a file of generated images."""

    group: str
    row: int
    path: Path | None
    embed: bool


def plan_chunks(context: StageContext) -> list[Chunk]:
    if context.step.reads:
        paths = context.run.files("generated", "images")
        return [[ImagePlace("generated", row, path, True) for row in range(len(read_rows([path])))] for path in paths]
    settings = context.recipe.leaks
    chunks: list[Chunk] = []
    for part in (context.corpus.train, context.corpus.test):
        sample: Container[int] = range(len(part))
        if settings.max_embedded is not None and len(part) > settings.max_embedded:
            rng = np.random.default_rng(context.seed("leaks", part.name))
            sample = set(rng.choice(len(part), settings.max_embedded, replace=False).tolist())
        places = [ImagePlace(part.name, row, None, row in sample) for row in range(len(part))]
        chunks += split(places, settings.shard_size)
    return chunks


def run_chunk(context: StageContext, chunk: Sequence[ImagePlace]) -> list[Artefact]:
    group, path = chunk[0].group, chunk[0].path
    drawn = read_images([path]) if path is not None else []
    part = context.corpus.test if group == "test" else context.corpus.train
    digests, hashes, embeddings = [], [], []
    for batch in split(chunk, context.recipe.leaks.batch_size):
        rows = [place.row for place in batch]
        images = [decode_png(drawn[row].image) for row in rows] if drawn else part.images(rows)
        digests.append(pixel_digests(images))
        hashes.append(perceptual_hashes(images))
        chosen = [image for image, place in zip(images, batch, strict=True) if place.embed]
        if chosen:
            model: ClipModel = context.model
            embeddings.append(model.encode_images(chosen).half())
        context.progress.advance(len(batch))
    tensors = {
        "digest": torch.from_numpy(np.concatenate(digests)),  # (N, 16) uint8
        "hash": torch.from_numpy(np.concatenate(hashes).view(np.int64)),  # (N,)
        "is_embedded": torch.tensor([place.embed for place in chunk]),  # (N,) bool
    }
    if embeddings:
        tensors["embedding"] = torch.cat(embeddings)  # (M, D) float16, of those that are embedded
    return [Tensors(group, tensors)]
