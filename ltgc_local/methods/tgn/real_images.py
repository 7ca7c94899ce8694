"""The real images that CDTG learns from: which rows each step draws, and their pixels in [-1, 1]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ltgc_local.backends.transfer import onto
from ltgc_local.training.balance_mix import BalancedSampler, shuffled


@dataclass(frozen=True)
class RealImages:
    """Decoded images (N, 3, S, S) uint8 and the generator's labels (N,): the tail's indices, then the head's."""

    pixels: torch.Tensor
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, sampler: Literal["instance", "balanced"], seed: int) -> Iterator[np.ndarray]:
        """Yield rows (``size``,) for ever: every image equally often, or every class; by the seed alone."""
        return row_batches(self.labels, size, sampler, seed)

    def take(self, rows: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, 3, S, S) in [-1, 1], channels last, and labels (B,) on a device."""
        pixels = onto(self.pixels[torch.from_numpy(rows)], device).contiguous(memory_format=torch.channels_last)
        return pixels.float() / 127.5 - 1, onto(torch.from_numpy(self.labels[rows]), device)


def row_batches(
    labels: np.ndarray, size: int, sampler: Literal["instance", "balanced"], seed: int
) -> Iterator[np.ndarray]:
    """Yield rows (``size``,) for ever: every image equally often, or every class; by the seed alone."""
    rng = np.random.default_rng(seed)
    if sampler == "balanced":
        balanced = BalancedSampler(labels, rng)
        while True:
            yield balanced.take(size)
    every = shuffled(len(labels), rng)
    while True:
        yield np.array([next(every) for _ in range(size)])


def mirror(images: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Mirror those images (B, 3, H, W) for which ``mirrored`` (B,) is true."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
