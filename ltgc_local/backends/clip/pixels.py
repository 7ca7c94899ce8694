"""Images -> pixels -> features, the same for every family of CLIP: resized on the CPU, normalised where the tower is.

``to_pixels`` runs in threads, several at once; one uint8 array a batch goes to the GPU, a quarter of the floats' size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ltgc_local.backends.transfer import to_device

AT_ONCE_ON_CPU = 64  # images; the activations of more do not stay in a core's cache

Resize = Callable[[Image.Image], Image.Image]
Tower = Callable[[torch.Tensor], torch.Tensor]


def to_pixels(images: Iterable[Image.Image], resize: Resize) -> np.ndarray:
    """Bring images to the tower's size: (N, 3, H, W) uint8."""
    arrays = [np.asarray(resize(image)) for image in images]
    return np.ascontiguousarray(np.stack(arrays).transpose(0, 3, 1, 2))


@torch.inference_mode()
def encode_pixels(
    tower: Tower,
    pixels: torch.Tensor,
    normalisation: tuple[torch.Tensor, torch.Tensor],
    device: str,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Encode pixels (N, 3, H, W) uint8 as unit rows (N, D), float32, on the CPU."""
    place = torch.device(device)
    mean, std = (to_device(tensor, place) for tensor in normalisation)
    rows = []
    for part in torch.split(pixels, AT_ONCE_ON_CPU if place.type == "cpu" else max(1, len(pixels))):
        images = (to_device(part, place).float() / 255 - mean) / std
        with torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
            features = tower(images)
        rows.append(F.normalize(features.float(), dim=-1))
    return torch.cat(rows).cpu()
