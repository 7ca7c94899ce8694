"""Images of some classes, numbered as a network numbers them, in batches that depend on seed and place alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ltgc_local.recipe.schema import Backbone
from ltgc_local.seeding import item_seed
from ltgc_local.training.augment import augment
from ltgc_local.training.pixels import Source


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a split, as a source of images. It pickles."""

    name: str
    split: Source
    rows: NDArray[np.int64]

    @cached_property
    def keys(self) -> Sequence[str]:
        return tuple(self.split.keys[row] for row in self.rows.tolist())

    @property
    def labels(self) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = self.split.labels[self.rows]
        return labels

    @property
    def files(self) -> Sequence[Path]:
        return self.split.files

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, row: int) -> Image.Image:
        return self.split.image(int(self.rows[row]))

    def images(self, rows: Iterable[int]) -> list[Image.Image]:
        return [self.image(int(row)) for row in rows]


def part_of(split: Source, class_ids: Sequence[int], name: str) -> Part:
    """Return the images of these classes; ``name`` names the file of decoded ones."""
    return Part(name, split, np.flatnonzero(np.isin(split.labels, class_ids)))


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Decoded images (N, 3, H, W) uint8 of sets that are one after the other, and each image's logit (N,)."""

    sets: tuple[torch.Tensor, ...]
    targets: NDArray[np.int64]
    draws: int = 0  # images of an epoch; 0: every image once
    balanced: bool = False  # draw a class evenly, then one of its images

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def epoch_size(self) -> int:
        return self.draws or len(self)

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Copy images out of the sets, each of which may be mapped from a file larger than memory."""
        starts = np.cumsum([0, *(len(pixels) for pixels in self.sets)])
        found = torch.empty(len(rows), *next(s for s in self.sets if len(s)).shape[1:], dtype=torch.uint8)
        for start, pixels in zip(starts, self.sets, strict=False):
            mine = (rows >= start) & (rows < start + len(pixels))
            if mine.any():
                found[torch.from_numpy(mine)] = pixels[torch.from_numpy(rows[mine] - start)]
        return found

    def num_batches(self, batch_size: int, processes: int = 1) -> int:
        """Return the batches of an epoch; a last batch that leaves a process one image is left out, for batch norm."""
        whole, rest = divmod(self.epoch_size, batch_size)
        return max(1, whole + (rest >= 2 * processes))

    def batches(self, batch_size: int, seed: int, epoch: int, processes: int = 1) -> Iterator[NDArray[np.int64]]:
        """Yield an epoch's rows, in an order of the seed and the epoch."""
        rng = np.random.default_rng(item_seed(seed, "order", epoch))
        if self.balanced:
            _, inverse, counts = np.unique(self.targets, return_inverse=True, return_counts=True)
            order = rng.choice(len(self), self.epoch_size, p=1 / counts[inverse] / len(counts))
        else:
            passes = -(-self.epoch_size // len(self))
            order = np.concatenate([rng.permutation(len(self)) for _ in range(passes)])[: self.epoch_size]
        for number in range(self.num_batches(batch_size, processes)):
            yield order[number * batch_size : (number + 1) * batch_size]

    def tensors(
        self, rows: NDArray[np.int64], settings: Backbone, seed: int, mean: torch.Tensor, std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return augmented, normalised images (B, 3, H, W) and targets (B,) on ``mean``'s device.

        What is random depends on ``seed`` alone, so that a training goes on as it would have.
        """
        pixels = self.take(rows).to(mean.device).float() / 255
        images = augment(pixels, settings, torch.Generator().manual_seed(seed))
        return (images - mean) / std, torch.from_numpy(self.targets[rows]).to(mean.device)
