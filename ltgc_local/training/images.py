"""Decoded images in memory or mapped from files, as training and prediction read them: by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Decoded images with their labels.

    Attributes:
        parts: (N_i, 3, H, W) uint8 each; rows are numbered through all of them in order.
        labels: (N,) int64, N the sum of all N_i.
    """

    parts: tuple[torch.Tensor, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: ImageSet) -> ImageSet:
        return ImageSet(self.parts + other.parts, np.concatenate([self.labels, other.labels]))

    def gather(self, rows: np.ndarray, pin: bool = False) -> torch.Tensor:
        """Copy images (B, 3, H, W) uint8 out of the parts, each of which may be a file larger than memory.

        Args:
            rows: (B,), at least one.
            pin: into page-locked memory, from which a GPU copies without making anything wait.
        """
        shape = next(part.shape[1:] for part in self.parts if len(part))
        images = torch.empty(len(rows), *shape, dtype=torch.uint8, pin_memory=pin)
        wanted, first = torch.from_numpy(rows), 0
        for part in self.parts:
            mine = (wanted >= first) & (wanted < first + len(part))
            if mine.all():
                return torch.index_select(part, 0, wanted - first, out=images)
            if mine.any():
                images[mine] = part[wanted[mine] - first]
            first += len(part)
        return images
