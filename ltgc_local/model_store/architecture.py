"""Whether a folder's configuration is of the card's role and family, by its JSON files alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ModelCard
from ltgc_local.model_store.files import read_json

#: What the t2i engine draws with; other pipelines' folders have other parts.
PIPELINE = "StableDiffusionXL"
TINY_DECODER = "AutoencoderTiny"
#: Names under which open_clip's weights are published, the first choice first.
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")


def weight_folders(card: ModelCard, folder: Path) -> list[Path]:
    """Return the folders that must hold weights: a pipeline's networks, otherwise the folder itself."""
    if card.role != "t2i":
        return [folder]
    parts = [name for name, kind in read_json(folder / "model_index.json").items() if _is_part(kind)]
    missing = [name for name in parts if not (folder / name).is_dir()]
    if missing:
        raise ModelError(f"{folder / missing[0]}: not there, but model_index.json names it; copy it again")
    parts += [card.tiny_decoder] if card.tiny_decoder else []
    return [folder / name for name in parts if (folder / name / "config.json").is_file()]


def _is_part(kind: object) -> bool:
    """Return whether an entry of model_index.json is [library, class]; optional parts that are left out have nulls."""
    return isinstance(kind, list) and len(kind) == 2 and all(isinstance(word, str) for word in kind)


def open_clip_weights(folder: Path) -> Path:
    """Return an open_clip folder's weights; open_clip itself would prefer a pickle with a usual name."""
    files = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("."))
    if not files:
        raise ModelError(f"{folder}: no *.safetensors; get or make {folder / OPEN_CLIP_WEIGHTS[0]}")
    usual = next((folder / name for name in OPEN_CLIP_WEIGHTS if folder / name in files), None)
    if usual is None and len(files) > 1:
        raise ModelError(
            f"{folder}: {len(files)} files of weights, such as {files[0].name} and {files[1].name}; rename the one to "
            f"load to {OPEN_CLIP_WEIGHTS[0]}"
        )
    return usual or files[0]


def check_architecture(card: ModelCard, folder: Path) -> None:
    """Refuse a folder whose configuration is of another architecture than the card says."""
    check = {"t2i": _check_pipeline, "clip": _check_clip, "backbone": _check_backbone}.get(card.role, _check_text_model)
    check(card, folder)


def _read_config(path: Path, words: str) -> dict[str, Any]:
    """Read a configuration; ``words`` say in the error why the folder must have it."""
    if not path.is_file():
        raise ModelError(f"{path.parent}: no {path.name}{words}")
    return read_json(path)


def _check_pipeline(card: ModelCard, folder: Path) -> None:
    index = folder / "model_index.json"
    words = f": '{card.name}' must be a folder of a diffusers pipeline"
    if not str(found := _read_config(index, words).get("_class_name")).startswith(PIPELINE):
        raise ModelError(f"{index}: _class_name is {found!r}, expected a {PIPELINE} pipeline for role t2i")
    if card.tiny_decoder is None:
        return
    config = folder / card.tiny_decoder / "config.json"
    if not config.is_file():
        raise ModelError(f"{config}: not there, but {card.file} says 'tiny_decoder: {card.tiny_decoder}'")
    if (found := read_json(config).get("_class_name")) != TINY_DECODER:
        raise ModelError(f"{config}: _class_name is {found!r}, expected {TINY_DECODER!r} for tiny_decoder")


def _check_clip(card: ModelCard, folder: Path) -> None:
    files = {"open_clip": "open_clip_config.json", "transformers_clip": "config.json"}
    family = card.family if card.family in files else "open_clip"
    (other,) = files.keys() - {family}
    hint = (
        f"; it has {files[other]}: write 'family: {other}' in {card.file}" if (folder / files[other]).is_file() else ""
    )
    config = _read_config(folder / files[family], f", which a clip of family {card.family} needs{hint}")
    if family == "transformers_clip" and (found := config.get("model_type")) != "clip":
        raise ModelError(f"{folder / files[family]}: model_type is {found!r}, expected 'clip' (both towers)")


def _check_backbone(card: ModelCard, folder: Path) -> None:
    path = folder / "config.json"
    found = _read_config(path, "; a folder of timm has one, with its architecture").get("architecture")
    if not isinstance(found, str):
        raise ModelError(f"{path}: architecture is {found!r}, expected timm's name of a network")


def _check_text_model(card: ModelCard, folder: Path) -> None:
    path = folder / "config.json"
    config = _read_config(path, "; copy all of the publisher's files, not the weights alone")
    found = str(config.get("model_type", ""))
    if not re.fullmatch(re.escape(_letters(found)) + r"\d*", _letters(card.family)):  # llava-1.5, not llava-onevision
        raise ModelError(
            f"{path}: model_type is {found!r}, but {card.file} says family {card.family!r}; put the right folder "
            f"there, or write 'family: {found}'"
        )
    if card.role == "vlm" and "vision_config" not in config:
        raise ModelError(f"{path}: {found!r} without vision_config cannot see images; role vlm needs a model that can")


def _letters(name: str) -> str:
    """Return letters and digits alone: qwen2.5-vl and qwen2_5_vl are one family; qwen2.5 is of the type qwen2."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
