"""The shipped miniature CLIP, loaded once: 0.8 M parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltgc_local.backends.open_clip_vit import OpenClipVit
from ltgc_local.backends.protocols import LoadSettings

CLIP = Path(__file__).resolve().parents[2] / "data/miniatures/clip"


@pytest.fixture
def load_clip() -> Callable[[], OpenClipVit]:
    """A function that loads a fresh CLIP: adapters change the tower that they are put on."""
    return lambda: OpenClipVit(CLIP, LoadSettings())


@pytest.fixture
def clip(load_clip: Callable[[], OpenClipVit]) -> OpenClipVit:
    return load_clip()


@pytest.fixture
def images() -> torch.Tensor:
    """Eight normalised images (8, 3, 28, 28)."""
    return torch.randn(8, 3, 28, 28, generator=torch.Generator().manual_seed(0))
