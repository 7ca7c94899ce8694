"""The tail network's features of real images, and the noise that is mixed into them: the link from KMDN to diffusion.

    e' = (1 - r) e + r n,    n ~ N(mu_y, s^2)                                        (TGN's fusion, at the conditioning)

e is the mean over places of the network's maps, each channel brought to mean 0 and deviation 1 over the tail's training
images; mu_y is the mean of the class y, and s the deviation within classes of all of them together, for a class of a
few images has none of its own that could be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image

from ltgc_local.errors import ArtefactError
from ltgc_local.methods.tgn.network import SquareResize, TailNetwork
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.disk import redo_file

BATCH = 64
LEAST_DEVIATION = 1e-6  # of a channel that is the same for every image


@dataclass(frozen=True)
class FeatureSpace:
    """The scale of the tail's features.

    Attributes:
        mean, std: (F,), of each channel over the tail's training images.
        class_means: (T, F), scaled, by the tail's index.
        within: (F,), scaled: the deviation within classes.
    """

    mean: torch.Tensor
    std: torch.Tensor
    class_means: torch.Tensor
    within: torch.Tensor

    @classmethod
    def measure(cls, features: torch.Tensor, labels: torch.Tensor) -> Self:
        """Measure features (N, F) whose labels (N,) are the tail's indices, each of which occurs."""
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
        """Return e' (B, F) of scaled features; ``noise`` (B, F) is standard normal, ``r`` one number or (B, 1)."""
        return (1 - r) * scaled + r * (self.class_means[labels] + self.within * noise)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"mean": self.mean, "std": self.std, "class_means": self.class_means, "within": self.within}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``tensors`` returned.

        Raises:
            ArtefactError: the file is damaged.
        """
        try:
            return cls(**read_tensors(path)[0])
        except TypeError as problem:
            raise ArtefactError(f"{path}: damaged ({problem}); {redo_file(path)}") from None


@torch.inference_mode()
def features_of(network: TailNetwork, images: Sequence[Image.Image], device: str) -> torch.Tensor:
    """Return the network's features of images: its maps' means over the places, (B, F), float32, on the CPU."""
    maps = network.features(_pixels(network, images, device))
    return maps.float().mean((2, 3)).cpu().clone()


@torch.inference_mode()
def probabilities_of(network: TailNetwork, images: Sequence[Image.Image], device: str) -> torch.Tensor:
    """Return the network's probabilities of the tail classes by index, (B, T), on the CPU."""
    found: torch.Tensor = network(_pixels(network, images, device))[0].float().softmax(1).cpu()
    return found


def _pixels(network: TailNetwork, images: Sequence[Image.Image], device: str) -> torch.Tensor:
    """Return images (B, 3, H, W) in [-1, 1] at the network's own size."""
    still = SquareResize(network.size_px)
    arrays = np.stack([np.asarray(still(image)) for image in images])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
