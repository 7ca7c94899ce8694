"""The tail network's features of real images, mixed with noise: the link from KMDN to diffusion.

    e' = (1 - r) e + r n,    n ~ N(mu_y, s^2)                                        (TGN's fusion, at the conditioning)

e is the network's feature map averaged over places, with each channel scaled to mean 0 and deviation 1 over the tail's
training images; mu_y is the mean of class y; s is the within-class deviation pooled over all classes, because a class
of a few images gives no reliable estimate of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.disk import redo_file

LEAST_DEVIATION = 1e-6  # for a channel that is the same in every image


@dataclass(frozen=True)
class FeatureSpace:
    """The scale of the tail's features.

    Attributes:
        mean, std: (F,), per channel over the tail's training images.
        class_means: (T, F), scaled, by the tail's index.
        within: (F,), scaled: the within-class deviation.
    """

    mean: torch.Tensor
    std: torch.Tensor
    class_means: torch.Tensor
    within: torch.Tensor

    @classmethod
    def measure(cls, features: torch.Tensor, labels: torch.Tensor) -> Self:
        """Measure features (N, F); the labels (N,) are the tail's indices, and every index occurs."""
        mean, std = features.mean(0), features.std(0, correction=0).clamp(min=LEAST_DEVIATION)
        scaled = (features - mean) / std
        class_means = torch.stack([scaled[labels == label].mean(0) for label in range(int(labels.max()) + 1)])
        within = (scaled - class_means[labels]).square().mean(0).sqrt()
        return cls(mean, std, class_means, within)

    def scale(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (B, F) with each channel's mean 0 and deviation 1 over the tail."""
        return (features - self.mean) / self.std

    def mix(
        self, scaled: torch.Tensor, labels: torch.Tensor, r: torch.Tensor | float, noise: torch.Tensor
    ) -> torch.Tensor:
        """Return e' (B, F) for scaled features; ``noise`` (B, F) is standard normal, ``r`` one number or (B, 1)."""
        return (1 - r) * scaled + r * (self.class_means[labels] + self.within * noise)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"mean": self.mean, "std": self.std, "class_means": self.class_means, "within": self.within}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of ``tensors``.

        Raises:
            ArtefactError: the file is damaged.
        """
        try:
            return cls(**read_tensors(path)[0])
        except TypeError as problem:
            raise ArtefactError(f"{path}: damaged ({problem}); {redo_file(path)}") from None
