"""Generated images as pictures: one by one, and in a grid for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def to_pixels(images: torch.Tensor) -> np.ndarray:
    """Turn images (B, 3, H, W), black -1 and white 1, into (B, H, W, 3) uint8; what lies beyond is cut."""
    levels = ((images.float() / 2 + 0.5).clamp(0, 1) * 255).round().byte()
    pixels: np.ndarray = levels.permute(0, 2, 3, 1).cpu().numpy()
    return pixels


@dataclass(frozen=True)
class SampleGrid:
    """Images (B, 3, H, W) in rows of ``columns``, as one PNG file."""

    kind: str
    images: torch.Tensor
    columns: int
    suffix: str = "png"

    def write(self, path: Path) -> None:
        pixels = to_pixels(self.images)
        rows = [np.concatenate(list(row), 1) for row in np.split(pixels, len(pixels) // self.columns)]
        Image.fromarray(np.concatenate(rows)).save(path, format="PNG")
