"""Two CLIPs: the shipped miniature on open_clip (0.8 M parameters), and a random one on transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.clip.transformers_clip import TransformersClip
from ltgc_local.backends.protocols import ClipModel, ModelOptions
from tests.transformers_clip_folder import write_transformers_clip

CLIP = Path(__file__).resolve().parents[2] / "data/miniatures/clip"


@pytest.fixture(scope="session")
def transformers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformers_clip(tmp_path_factory.mktemp("transformers_clip"))


@pytest.fixture
def load_clip() -> Callable[[], OpenClipVit]:
    """A function that loads a fresh miniature: adapters change the tower that they are put on."""
    return lambda: OpenClipVit(CLIP, ModelOptions())


@pytest.fixture
def clip(load_clip: Callable[[], OpenClipVit]) -> OpenClipVit:
    return load_clip()


@pytest.fixture(params=["open_clip", "transformers_clip"])
def load_any_clip(request: pytest.FixtureRequest, transformers_folder: Path) -> Callable[[], ClipModel]:
    """The same of either family."""
    if request.param == "open_clip":
        return lambda: OpenClipVit(CLIP, ModelOptions())
    return lambda: TransformersClip(transformers_folder, ModelOptions())


@pytest.fixture
def any_clip(load_any_clip: Callable[[], ClipModel]) -> ClipModel:
    return load_any_clip()


@pytest.fixture
def images() -> torch.Tensor:
    """Eight normalised images (8, 3, 28, 28)."""
    return torch.randn(8, 3, 28, 28, generator=torch.Generator().manual_seed(0))
