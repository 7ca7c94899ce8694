"""Cards of four models whose folders say what they are and hold no tensor: a step with a model cannot run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

#: Role -> family, and the configuration that a folder of it has.
EMPTY_MODELS: dict[str, tuple[str, str, dict[str, object]]] = {
    "vlm": ("qwen2.5-vl", "config.json", {"model_type": "qwen2_5_vl", "vision_config": {}}),
    "llm": ("qwen3", "config.json", {"model_type": "qwen3"}),
    "t2i": ("sdxl", "model_index.json", {"_class_name": "StableDiffusionXLPipeline"}),
    "clip": ("open_clip", "open_clip_config.json", {}),
}


@pytest.fixture
def empty_models(tmp_path: Path) -> tuple[str, ...]:
    """Options of a recipe that name the cards ``tiny-<role>``, which are in the test's folder."""
    return write_empty_models(tmp_path / "cards")


def write_empty_models(cards: Path) -> tuple[str, ...]:
    """Write the cards ``tiny-<role>`` with their folders; return the options of a recipe that name them."""
    cards.mkdir()
    for role, (family, file, content) in EMPTY_MODELS.items():
        front = f"name: tiny-{role}\nrole: {role}\nfamily: {family}\npath: {role}\nevidence: random\nlicense: MIT\n"
        (cards / f"tiny-{role}.md").write_text(f"---\n{front}source: this test\n---\n")
        (cards / role).mkdir()
        (cards / role / file).write_text(json.dumps(content))
        (cards / role / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return (f"models.cards={cards}", *(f"models.{role}=tiny-{role}" for role in EMPTY_MODELS))
