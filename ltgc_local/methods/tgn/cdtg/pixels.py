"""Between uint8 pixels and the generator's images in [-1, 1], and grids of samples to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ltgc_local.backends.torch_device import to_device


def to_images(pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return uint8 pixels (B, 3, S, S) as images in [-1, 1], channels last, on a device."""
    return to_device(pixels, device).contiguous(memory_format=torch.channels_last).float() / 127.5 - 1


def to_pixels(images: torch.Tensor) -> np.ndarray:
    """Return images (B, 3, H, W), clipped to [-1, 1], as pixels (B, H, W, 3) uint8."""
    levels = ((images.float() / 2 + 0.5).clamp(0, 1) * 255).round().byte()
    pixels: np.ndarray = levels.permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def mirror(images: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Mirror those images (B, 3, H, W) for which ``mirrored`` (B,) is true."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


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
