"""The suite is offline: the network is refused before anything else is imported."""

from __future__ import annotations

import os

from ltgc_local import offline

for variable in ("LTGC_CARDS", "LTGC_MODELS"):  # a developer's own
    os.environ.pop(variable, None)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are small, and threads that wait for a core cost more
offline.set_environment()
offline.forbid_network()

from collections.abc import Callable  # noqa: E402 (the network is refused first)
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from ltgc_local.recipe import Recipe, load_recipe  # noqa: E402

# Reproducible examples, and no deadline: the machine may be busy.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def make_recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """A function that loads a recipe of defaults on the shipped data and miniatures, changed by ``--set`` options."""

    def make(*overrides: str) -> Recipe:
        path = tmp_path / "plain.yaml"
        path.write_text(
            f"name: plain\ndata:\n  root: {ROOT}/data/fashion_mnist_lt\n"
            f"models:\n  cards: {ROOT}/model_cards\n  vlm: miniature-qwen2.5-vl\n  llm: miniature-qwen3\n"
            "  t2i: miniature-sdxl\n  clip: miniature-vit\n  device: cpu\n"
        )
        return load_recipe(path, overrides)

    return make
