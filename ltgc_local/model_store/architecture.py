"""Whether a folder's configuration is of the card's role and family, by its JSON files alone."""

from __future__ import annotations

import re
from pathlib import Path

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ModelCard
from ltgc_local.model_store.files import read_json

#: What the t2i engine draws with; other pipelines' folders have other parts.
PIPELINE = "StableDiffusionXL"
TINY_DECODER = "AutoencoderTiny"


def weight_folders(card: ModelCard, folder: Path) -> list[Path]:
    """Return the folders that must hold weights: of a pipeline those of its networks, else the folder itself."""
    if card.role != "t2i":
        return [folder]
    parts = [name for name, kind in read_json(folder / "model_index.json").items() if _is_part(kind)]
    missing = [name for name in parts if not (folder / name).is_dir()]
    if missing:
        raise ModelError(f"{folder / missing[0]}: not there, but model_index.json names it; copy it again")
    parts += [card.tiny_decoder] if card.tiny_decoder else []
    return [folder / name for name in parts if (folder / name / "config.json").is_file()]


def _is_part(kind: object) -> bool:
    """Return whether an entry of model_index.json is [library, class]; an optional part that is left out has nulls."""
    return isinstance(kind, list) and len(kind) == 2 and all(isinstance(word, str) for word in kind)


def check_architecture(card: ModelCard, folder: Path) -> None:
    """Refuse a folder whose configuration is another architecture's than the card says.

    Raises:
        ModelError: with the file, what it says and what the card says.
    """
    if card.role == "t2i":
        _check_pipeline(card, folder)
    elif card.role == "clip":
        _check_clip(card, folder)
    elif card.role == "backbone":
        _check_backbone(folder)
    else:
        _check_text_model(card, folder)


def _check_pipeline(card: ModelCard, folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{folder}: no model_index.json: '{card.name}' must be a folder of a diffusers pipeline")
    found = read_json(index).get("_class_name")
    if not str(found).startswith(PIPELINE):
        raise ModelError(f"{index}: _class_name is {found!r}, expected a {PIPELINE} pipeline for role t2i")
    if card.tiny_decoder is None:
        return
    config = folder / card.tiny_decoder / "config.json"
    if not config.is_file():
        raise ModelError(f"{config}: not there, but {card.file} says 'tiny_decoder: {card.tiny_decoder}'")
    if (found := read_json(config).get("_class_name")) != TINY_DECODER:
        raise ModelError(f"{config}: _class_name is {found!r}, expected {TINY_DECODER!r} for tiny_decoder")


def _check_clip(card: ModelCard, folder: Path) -> None:
    wanted, other = "open_clip_config.json", "config.json"
    if card.family == "transformers_clip":
        wanted, other = other, wanted
    if not (folder / wanted).is_file():
        hint = ""
        if (folder / other).is_file():
            family = "open_clip" if card.family == "transformers_clip" else "transformers_clip"
            hint = f"; it has {other}: write 'family: {family}' in {card.file}"
        raise ModelError(f"{folder}: no {wanted}, which a clip of family {card.family} needs{hint}")
    if card.family == "transformers_clip" and (found := read_json(folder / wanted).get("model_type")) != "clip":
        raise ModelError(f"{folder / wanted}: model_type is {found!r}, expected 'clip' (both towers)")


def _check_backbone(folder: Path) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder}: no config.json; a folder of timm has one, with its architecture")
    if not isinstance(found := read_json(path).get("architecture"), str):
        raise ModelError(f"{path}: architecture is {found!r}, expected timm's name of a network")


def _check_text_model(card: ModelCard, folder: Path) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder}: no config.json; copy all of the publisher's files, not the weights alone")
    config = read_json(path)
    found = str(config.get("model_type", ""))
    if not re.fullmatch(re.escape(_plain(found)) + r"\d*", _plain(card.family)):  # llava-1.5, and not llava-onevision
        raise ModelError(
            f"{path}: model_type is {found!r}, but {card.file} says family {card.family!r}; put the right folder "
            f"there, or write 'family: {found}'"
        )
    if card.role == "vlm" and "vision_config" not in config:
        raise ModelError(f"{path}: a {found!r} without vision_config sees no images; role vlm needs a model that does")


def _plain(name: str) -> str:
    """Return letters and digits alone: qwen2.5-vl and qwen2_5_vl are one family; qwen2.5 is of the type qwen2."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
