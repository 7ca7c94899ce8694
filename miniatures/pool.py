"""The pool: the official Fashion-MNIST train images that are in neither the long tail nor the validation set."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image

from miniatures.attributes import compute

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "data" / "miniatures"
SOURCE = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
IMAGE_PX = 32  # what the miniatures see and draw; the photographs have 28


def _data_script() -> ModuleType:
    path = ROOT / "data" / "make_fashion_mnist_lt.py"
    spec = importlib.util.spec_from_file_location("make_fashion_mnist_lt", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


DATA = _data_script()
CLASS_NAMES: tuple[str, ...] = DATA.CLASS_NAMES


@dataclass(frozen=True)
class Pictures:
    """Photographs (N, 28, 28) uint8 with labels (N,)."""

    images: np.ndarray
    labels: np.ndarray

    @cached_property
    def attributes(self) -> list[dict[str, str]]:
        return [compute(image, int(label)) for image, label in zip(self.images, self.labels, strict=True)]

    @cached_property
    def pixels(self) -> torch.Tensor:
        """The photographs at IMAGE_PX as RGB in [-1, 1]: (N, 3, 32, 32) float32."""
        size = (IMAGE_PX, IMAGE_PX)
        big = np.stack([np.asarray(Image.fromarray(i).resize(size, Image.Resampling.BICUBIC)) for i in self.images])
        return torch.from_numpy(big)[:, None].expand(-1, 3, -1, -1).float() / 127.5 - 1

    def sample(self, rows: np.ndarray) -> Pictures:
        return Pictures(self.images[rows], self.labels[rows])


def load(split: str) -> Pictures:
    """Load ``pool``, ``val``, ``train`` (the long tail), ``official_train`` or ``official_test``."""
    if split == "official_test":
        part = DATA.read_official(SOURCE, "t10k")
    else:
        part = DATA.read_official(SOURCE, "train")
        if split != "official_train":
            part = DATA.split_train(part)[split]
    return Pictures(part.images, part.labels)
