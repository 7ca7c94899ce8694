"""Model cards: one Markdown file a model, YAML front matter for the program and prose for people.

A card names a folder of weights, relative to ``$LTGC_MODELS`` where that holds it, else to the card's own folder.
Nothing is downloaded, and no pickle is ever loaded: a folder without safetensors is refused.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ltgc_local.errors import ModelError
from ltgc_local.records import Evidence
from ltgc_local.store.digest import check_safetensors, digest_file, model_files

Role = Literal["vlm", "llm", "t2i", "clip", "backbone"]
ROLES: tuple[Role, ...] = get_args(Role)
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class ModelCard(BaseModel):
    """The front matter of one model card."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What recipes call the model; the card's file is ``<name>.md``."""
    role: Role
    """What it does: sees and describes, writes, draws, scores, or is what a network starts from."""
    family: str = Field(min_length=1)
    """Architecture, e.g. ``qwen2.5-vl``, ``qwen3``, ``sdxl``; of a clip ``open_clip`` or ``transformers_clip``, which
    picks the code that loads it; of a backbone ``timm``."""
    path: str = Field(min_length=1)
    """Folder of the weights, relative to ``$LTGC_MODELS`` or to the card's folder; with ".." only to the latter."""
    evidence: Evidence
    """``real`` weights, a ``miniature`` that proves the machinery, or ``random`` weights for tests."""
    licence: str = Field(min_length=1)
    """Licence of the weights."""
    licence_note: str | None = None
    """What the licence asks of a user, where that is not plain."""
    source: str = Field(min_length=1)
    """Where the weights come from: an address, or the script that trains them."""
    image_size_px: int | None = Field(default=None, ge=1)
    """Width and height that the model reads or draws."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format to load the weights in, where the recipe says ``auto``."""
    parameters_millions: float | None = Field(default=None, gt=0)
    """Number of parameters, in millions."""
    sha256: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = {}
    """File (relative to the folder) -> sha256 of its content."""

    _file: Path = PrivateAttr(default=Path())

    @property
    def file(self) -> Path:
        """The Markdown file that this card was read from."""
        return self._file


def read_card(path: Path) -> ModelCard:
    """Read one model card.

    Raises:
        ModelError: it is missing, has no front matter, or its front matter is wrong; with every problem, one a line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model card") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    lines = text.splitlines()
    end = next((i for i, line in enumerate(lines) if i and line.rstrip() == "---"), None)
    if not lines or lines[0].rstrip() != "---" or end is None:
        raise ModelError(f"{path}:1: expected front matter: YAML between two lines '---', then prose")
    front = "\n".join(lines[1:end])
    try:
        key_lines = _check_keys(path, yaml.compose(front, yaml.SafeLoader))
        card = ModelCard.model_validate(yaml.safe_load(front))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or error
        raise ModelError(f"{path}:{mark.line + 2 if mark else 1}: front matter is not valid YAML: {words}") from error
    except ValidationError as error:
        found = sorted((key_lines.get(str(e["loc"][0]), 1), _explain(dict(e))) for e in error.errors())
        raise ModelError("\n".join(f"{path}:{line}: {problem}" for line, problem in found)) from error
    if card.name != path.stem:
        raise ModelError(f"{path}:{key_lines['name']}: name '{card.name}' is not the file's; expected '{path.stem}'")
    card._file = path
    return card


def list_cards(folder: Path) -> list[ModelCard]:
    """Read every card of a folder (``*.md`` but README.md), by name.

    Raises:
        ModelError: the folder is not there, or a card in it is wrong.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder of model cards")
    return [read_card(path) for path in sorted(folder.glob("*.md")) if path.name.lower() != "readme.md"]


def find_card(folder: Path, name: str, role: Role) -> ModelCard:
    """Read the card ``name`` and check that it has the role.

    Raises:
        ModelError: no such card (with the closest name), or of another role.
    """
    path = folder / f"{name}.md"
    if not path.is_file():
        names = [card.stem for card in sorted(folder.glob("*.md")) if card.name.lower() != "readme.md"]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"cards there: {', '.join(names) or 'none'}"
        raise ModelError(f"{path}: no such model card; {hint}")
    card = read_card(path)
    if card.role != role:
        raise ModelError(f"{path}: role is {card.role}, expected {role}")
    return card


def model_folder(card: ModelCard) -> Path:
    """Return the folder of the card's weights, absolute: in ``$LTGC_MODELS`` if it is there, else beside the card."""
    places = _places(card)
    return next((place for place in places if place.is_dir()), places[-1]).resolve()


def check_model_folder(card: ModelCard, *, hash_files: bool = True) -> Path:
    """Check that the card's weights are there, whole and safetensors; return their folder.

    Args:
        hash_files: also compare with the card's sha256, which reads the files that it lists from end to end.

    Raises:
        ModelError: what is wrong, and where the weights should be.
    """
    folder = model_folder(card)
    if not folder.is_dir():
        places = [str(place) for place in _places(card)[:-1]] + [str(folder)]
        if len(places) == 1 and _may_be_elsewhere(card):
            places.insert(0, f"$LTGC_MODELS/{card.path} ($LTGC_MODELS is not set)")
        where = " or at ".join(places)
        raise ModelError(f"{card.file}: no weights of '{card.name}': put the folder at {where}; source: {card.source}")
    files = model_files(folder)
    weights = [file for file in files if file.suffix == ".safetensors"]
    safe_parents = {file.parent for file in weights}
    pickles = [file for file in files if file.suffix in PICKLES and file.parent not in safe_parents]
    if pickles:
        raise ModelError(
            f"{pickles[0]}: weights as a pickle, which can run any code when loaded; never loaded here. "
            f"Get or make {pickles[0].parent / 'model.safetensors'} instead"
        )
    if not weights:
        raise ModelError(f"{folder}: no *.safetensors in the folder of '{card.name}'; source: {card.source}")
    for file in weights:
        check_safetensors(file)
    for index in (file for file in files if file.name.endswith(".safetensors.index.json")):
        _check_index(index)
    for name, expected in card.sha256.items() if hash_files else ():
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: not there, but {card.file} lists it under sha256")
        found = digest_file(folder / name)
        if found != expected:
            raise ModelError(f"{folder / name}: sha256 is {found}, but {card.file} says {expected}; copy it again")
    return folder


def _places(card: ModelCard) -> list[Path]:
    """Return where the card's folder may be, the first choice first and the one beside the card last."""
    models = os.environ.get("LTGC_MODELS")
    elsewhere = [Path(models).expanduser() / card.path] if models and _may_be_elsewhere(card) else []
    return [*elsewhere, card.file.parent / card.path]


def _may_be_elsewhere(card: ModelCard) -> bool:
    """Return whether ``$LTGC_MODELS`` counts: not for a path that is absolute, or that climbs out of its folder."""
    return not Path(card.path).is_absolute() and ".." not in Path(card.path).parts


def _check_index(index: Path) -> None:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: not an index of safetensors (no 'weight_map')") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(f"{index}: lists {len(names)} files, of which {missing[0]} is not there; copy it again")


def _check_keys(path: Path, node: yaml.Node | None) -> dict[str, int]:
    """Return the line of each key of the front matter (which starts in the file's line 2).

    Raises:
        ModelError: it is no mapping, or a key is there twice.
    """
    if not isinstance(node, yaml.MappingNode):
        raise ModelError(f"{path}:1: expected front matter with keys such as 'name:' and 'role:'")
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 2
        if key.value in lines:
            raise ModelError(
                f"{path}:{line}: key '{key.value}' is there twice; the first is in line {lines[key.value]}"
            )
        lines[key.value] = line
    return lines


def _explain(error: dict[str, Any]) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"missing key '{key}'"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, ModelCard.model_fields, n=1)
        return f"unknown key '{key}'" + (f"; did you mean '{close[0]}'?" if close else "")
    return f"{key}: {error['msg'].replace('Input should be', 'expected')}; found {error['input']!r}"
