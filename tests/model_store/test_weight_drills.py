"""Drills on the real folders of every role: a weight file that is missing, cut short or another model's stops a run
before its first step, with exit code 3, the file and what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ModelCard, list_cards, read_card
from ltgc_local.model_store.folders import check_model_folder

ROOT = Path(__file__).resolve().parents[2]
ROLES = {"vlm": "miniature-qwen2.5-vl", "llm": "miniature-qwen3", "t2i": "miniature-sdxl", "clip": "miniature-vit"}
PARTS = [("vlm", "."), ("llm", "."), ("clip", "."), *(("t2i", p) for p in ("unet", "vae", "text_encoder"))]


def copy_of(role: str, folder: Path, of: str | None = None) -> ModelCard:
    """Copy the card of a role beside a copy of its weights, or of another role's."""
    text = (ROOT / f"model_cards/{ROLES[role]}.md").read_text("utf-8")
    source = next(card for card in list_cards(ROOT / "model_cards") if card.name == ROLES[of or role])
    shutil.copytree(ROOT / "model_cards" / source.path, folder / "weights")
    own = next(line for line in text.splitlines() if line.startswith("path:"))
    path = folder / f"{ROLES[role]}.md"
    path.write_text(text.replace(own, "path: weights"), "utf-8")
    return read_card(path)


def weights_of(folder: Path, part: str) -> Path:
    (path,) = (folder / "weights" / part).glob("*.safetensors")
    return path


@pytest.mark.parametrize("role", ROLES)
def test_a_whole_copy_passes(role: str, tmp_path: Path) -> None:
    assert check_model_folder(copy_of(role, tmp_path)) == tmp_path / "weights"


@pytest.mark.parametrize(("role", "part"), PARTS)
def test_a_missing_weight_file_is_named_with_its_folder(role: str, part: str, tmp_path: Path) -> None:
    card = copy_of(role, tmp_path)
    weights_of(tmp_path, part).unlink()
    words = rf"weights.*{part.strip('.')}: no \*\.safetensors in the folder of '{card.name}'"
    with pytest.raises(ModelError, match=words):
        check_model_folder(card)


@pytest.mark.parametrize(("role", "part"), PARTS)
def test_a_truncated_weight_file_is_named_with_its_bytes(role: str, part: str, tmp_path: Path) -> None:
    card, path = copy_of(role, tmp_path), weights_of(tmp_path, part)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 1)
    with pytest.raises(ModelError, match=rf"{path.name}: truncated: {size - 1} bytes of {size}; copy it again"):
        check_model_folder(card)


@pytest.mark.parametrize(
    ("role", "of", "words"),
    [
        ("vlm", "llm", "model_type is 'qwen3', but .* says family 'qwen2.5-vl'"),
        ("llm", "vlm", "model_type is 'qwen2_5_vl', but .* says family 'qwen3'"),
        ("llm", "clip", "no config.json"),
        ("t2i", "clip", "no model_index.json"),
        ("clip", "llm", "no open_clip_config.json"),
        ("clip", "t2i", "no open_clip_config.json"),
    ],
)
def test_another_models_folder_is_refused_by_its_configuration(role: str, of: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        check_model_folder(copy_of(role, tmp_path, of))


def test_a_run_with_cut_weights_ends_with_exit_code_3_before_its_first_step(tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    for role in ROLES:
        (tmp_path / role).mkdir()
        copy_of(role, tmp_path / role)
        name = f"{ROLES[role]}.md"
        text = (tmp_path / role / name).read_text("utf-8")
        (cards / name).write_text(text.replace("path: weights", f"path: ../{role}/weights"), "utf-8")
    path = weights_of(tmp_path / "clip", ".")
    path.write_bytes(path.read_bytes()[:-1])
    out = tmp_path / "run"
    command = [sys.executable, "-m", "ltgc_local.cli", "run", str(ROOT / "recipes/quickstart.yaml")]
    command += ["--set", f"models.cards={cards}", "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 3
    assert f"{path.name}: truncated" in result.stderr and "Traceback" not in result.stderr
    assert not (out / "describe").exists()
