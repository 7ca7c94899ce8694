"""Copies of each role's folder of weights, and ``validate`` on a recipe that names one of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import timm
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from ltgc_local.cli import main

ROOT = Path(__file__).resolve().parents[2]
CARDS = {
    "vlm": "miniature-qwen2.5-vl",
    "llm": "miniature-qwen3",
    "t2i": "miniature-sdxl",
    "clip": "miniature-vit",
    "backbone": "tiny-backbone",
}
#: A file of each role's folder that a library reads as a configuration.
CONFIG = {
    "vlm": "processor_config.json",
    "llm": "config.json",
    "t2i": "unet/config.json",
    "clip": "tokenizer_config.json",
    "backbone": "config.json",
}


def copy_folder(role: str, place: Path) -> Path:
    """Copy the role's folder of weights, or make one for the role that no miniature has; write the cards beside it."""
    cards, folder = place / "cards", place / "weights"
    cards.mkdir(parents=True)
    for card in (ROOT / "model_cards").glob("miniature-*.md"):
        lines = card.read_text("utf-8").splitlines()
        (line,) = [number for number, words in enumerate(lines) if words.startswith("path: ")]
        source = (ROOT / "model_cards" / lines[line].removeprefix("path: ")).resolve()
        if card.stem == CARDS[role]:
            shutil.copytree(source, folder)
            source = folder
        lines[line] = f"path: {source}"
        (cards / card.name).write_text("\n".join(lines), "utf-8")
    if role == "backbone":
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"architecture": "test_resnet"}))
        save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), folder / "model.safetensors")
        front = f"name: tiny-backbone\nrole: backbone\nfamily: timm\npath: {folder}\n"
        (cards / "tiny-backbone.md").write_text(f"---\n{front}evidence: random\nlicense: MIT\nsource: s\n---\n")
    return folder


def card_of(role: str, folder: Path) -> Path:
    return folder.parent / "cards" / f"{CARDS[role]}.md"


def edit_json(file: Path, **keys: object) -> None:
    """Write keys into a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | keys))


def validate(role: str, folder: Path) -> Result:
    """Validate a recipe whose model of this role is in the folder."""
    recipe = "tgn_quickstart.yaml" if role == "backbone" else "quickstart.yaml"
    options = [f"models.cards={folder.parent / 'cards'}"]
    options += ["models.backbone=tiny-backbone"] if role == "backbone" else []
    words = ["validate", str(ROOT / "recipes" / recipe), *(word for one in options for word in ("--set", one))]
    return CliRunner().invoke(main, words)
