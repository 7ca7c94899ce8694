"""Images -> pixels -> features, for every family of CLIP: resized on the CPU, normalised where the tower is.

``to_pixels`` runs in several threads at once. One uint8 array per batch goes to the GPU, a quarter of the floats' size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype, to_device

TEXTS_AT_ONCE = 256
IMAGES_AT_ONCE_ON_CPU = 64  # the activations of more do not stay in a core's cache

Resize = Callable[[Image.Image], Image.Image]


def to_pixels(images: Iterable[Image.Image], resize: Resize) -> np.ndarray:
    """Bring images to the tower's size: (N, 3, H, W) uint8."""
    arrays = [np.asarray(resize(image)) for image in images]
    return np.ascontiguousarray(np.stack(arrays).transpose(0, 3, 1, 2))


class TwoTowers(ABC):
    """A CLIP as a ``ClipModel``. A family loads ``_model``, ``visual`` and the attributes below.

    Attributes:
        visual: the vision tower: normalised images (B, 3, H, W) -> features (B, D), not of unit length.
        preprocessing: the configuration of ``resize``, as text.
    """

    lora_targets: Mapping[str, str]
    visual: torch.nn.Module
    resize: Resize
    normalisation: tuple[torch.Tensor, torch.Tensor]
    preprocessing: str
    _model: Any

    def __init__(self, options: ModelOptions) -> None:
        self.device = resolve_device(options.device)
        self._dtype = resolve_dtype(options.dtype, self.device)

    @property
    def logit_scale(self) -> float:
        return float(self._model.logit_scale.detach().exp())

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return self.encode_pixels(torch.from_numpy(to_pixels(images, self.resize)))

    @torch.inference_mode()
    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        place = torch.device(self.device)
        mean, std = (to_device(tensor, place) for tensor in self.normalisation)
        rows = []
        for part in torch.split(pixels, IMAGES_AT_ONCE_ON_CPU if place.type == "cpu" else max(1, len(pixels))):
            images = (to_device(part, place).float() / 255 - mean) / std
            with torch.autocast(place.type, self._dtype, enabled=self._dtype != torch.float32):
                features = self.visual(images)
            rows.append(F.normalize(features.float(), dim=-1))
        return torch.cat(rows).cpu()

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        parts = [list(texts[start : start + TEXTS_AT_ONCE]) for start in range(0, len(texts), TEXTS_AT_ONCE)]
        return F.normalize(torch.cat([self._encode_texts(part).float() for part in parts]), dim=-1).cpu()

    @abstractmethod
    def _encode_texts(self, texts: list[str]) -> torch.Tensor:
        """Return features (N, D) of a batch of texts, on the device."""
