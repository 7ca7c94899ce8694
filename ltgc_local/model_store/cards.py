"""Model cards: one Markdown file per model, with YAML front matter for the program and prose for people.

A card names a folder of weights (``ltgc_local.model_store.folders``). A recipe names one folder of cards;
``$LTGC_CARDS`` may list others, which are searched after it.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ltgc_local.errors import ModelError
from ltgc_local.printable import printable
from ltgc_local.records import Evidence
from ltgc_local.regular_files import read_text
from ltgc_local.yaml_tree import Entry, Place, Problem, Value, parse_yaml

Role = Literal["vlm", "llm", "t2i", "clip", "backbone"]
ROLES: tuple[Role, ...] = get_args(Role)
TEXT_ROLES: frozenset[Role] = frozenset({"vlm", "llm"})

MAX_BYTES = 1_000_000
#: Characters of front matter (usually about 1,000; PyYAML reads 50,000 per second) and brackets in it (which may take
#: PyYAML a second per thousand).
MAX_FRONT, MAX_BRACKETS = 50_000, 200
#: One or several files of the model's folder: * stands for any characters, but not for the dot of a hidden name.
_FILE = r"^[\w][\w .+@=-]*(/[\w][\w .+@=-]*)*$"
_FILES = r"^[\w*][\w .+@=*-]*(/[\w*][\w .+@=*-]*)*$"


class FewStepCard(BaseModel):
    """How to generate with a distilled text-to-image checkpoint (Lightning, LCM, Hyper, Turbo)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    steps: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Numbers of steps that it was distilled for; ``draw.steps`` must be one of them."""
    guidance: float = Field(default=0.0, ge=0)
    """Largest guidance that works; at 1 or less, ``draw.guidance`` must ask for none."""
    scheduler: Literal["euler", "euler_ancestral", "ddim", "lcm"] | None = None
    """Scheduler that it was distilled for; null: the folder's own."""
    timestep_spacing: Literal["trailing", "leading", "linspace"] | None = None
    """Spacing of the steps; null: the scheduler's."""
    lora: str | None = Field(default=None, pattern=r"^[\w][\w .-]*(/[\w][\w .-]*)*\.safetensors$")
    """File in the model's folder that is fused into the base model's weights; null: the folder itself is distilled."""


class ModelCard(BaseModel):
    """The front matter of one model card."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The model's name in recipes; the card's file is ``<name>.md``."""
    role: Role
    """What it does: describe images, write, generate images, score images, or initialise a network."""
    family: str = Field(min_length=1)
    """Architecture, e.g. ``qwen2.5-vl``, ``qwen3``, ``sdxl``; for a clip ``open_clip`` or ``transformers_clip``, which
    selects the code that loads it; for a backbone ``timm``."""
    path: str = Field(min_length=1, max_length=4_000, pattern=r"^[^\x00-\x1f\x7f]+$")
    """Folder of the weights, relative to one of ``$LTGC_MODELS`` or to the card's folder (always, if it has "..")."""
    evidence: Evidence
    """``real`` weights, a ``miniature`` that shows the machinery works, or ``random`` weights for tests."""
    license: str = Field(min_length=1)
    """License of the weights."""
    license_note: str | None = None
    """What the license asks of a user, if that is not obvious."""
    source: str = Field(min_length=1)
    """Where the weights come from: an address, or the script that trains them."""
    image_size_px: int | None = Field(default=None, ge=1)
    """Width and height of the images that the model reads or generates."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format to load the weights in, if the recipe says ``auto``."""
    tensor_parallel: int | None = Field(default=None, ge=1, le=64)
    """GPUs that one copy of a vlm or llm needs, if the recipe does not say."""
    parameters_millions: float | None = Field(default=None, gt=0)
    """Number of parameters, in millions."""
    few_step: FewStepCard | None = None
    """For a distilled t2i: what it was distilled for."""
    tiny_decoder: str | None = Field(default=None, pattern=r"^[\w][\w.-]*(/[\w][\w.-]*)*$")
    """For a t2i: subfolder with a small decoder of its latents (diffusers' AutoencoderTiny), which recipes select with
    ``draw.decoder: tiny``."""
    sha256: dict[Annotated[str, Field(pattern=_FILE)], Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = {}
    """File (relative to the folder) -> sha256 of its content."""
    unused: list[Annotated[str, Field(pattern=_FILES)]] = []
    """The publisher's files that are never opened (names relative to the folder, ``*`` for any characters), such as
    copies of the weights as pickles."""

    _file: Path = PrivateAttr(default=Path())

    @property
    def file(self) -> Path:
        """The Markdown file that this card was read from."""
        return self._file


def read_card(path: Path) -> ModelCard:
    """Read one model card; a ModelError lists every problem, one per line."""
    try:
        text = read_text(path, MAX_BYTES, "utf-8-sig")
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model card") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    root = _parse_front_matter(path, text)
    try:
        card = ModelCard.model_validate(_values_of(root))
    except ValidationError as error:
        found = sorted((_line_of(root, dict(e)), _explain(dict(e))) for e in error.errors())
        raise ModelError("\n".join(f"{path}:{line}: {problem}" for line, problem in found)) from error
    if card.name != path.stem:
        line = _line_of(root, {"loc": ("name",)})
        raise ModelError(f"{path}:{line}: name '{card.name}' is not the file's; expected '{path.stem}'")
    card._file = path
    return card


def list_cards(folder: Path) -> list[ModelCard]:
    """Read every card in a recipe's own folder, which must exist, and in ``$LTGC_CARDS``, sorted by name.

    If several have the same name, the first counts.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder of model cards")
    first = {path.name: path for each in reversed(card_folders(folder)) for path in _files(each)}
    return [read_card(first[name]) for name in sorted(first)]


def find_card(folder: Path, name: str, role: Role) -> ModelCard:
    """Read the card ``name``, which must have the role.

    Args:
        folder: the recipe's own, searched before those of ``$LTGC_CARDS``.
    """
    path = next((each / f"{name}.md" for each in card_folders(folder) if os.path.lexists(each / f"{name}.md")), None)
    if path is None:
        names = sorted({card.stem for each in card_folders(folder) for card in _files(each)})
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"cards there: {', '.join(names) or 'none'}"
        raise ModelError(f"no model card '{name}' in {where_searched(folder)}; {hint}")
    card = read_card(path)
    if card.role != role:
        raise ModelError(f"{path}: role is {card.role}, expected {role}")
    return card


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.md") if path.name.lower() != "readme.md"]


def card_folders(own: Path) -> list[Path]:
    """Return the folders where a recipe's cards are searched, in order: its own, then ``$LTGC_CARDS``."""
    return [own, *folders_of("LTGC_CARDS")]


def where_searched(own: Path) -> str:
    """Name the folders of ``card_folders``, for the message that a card is in none of them."""
    others = [f"{path}" if path.is_dir() else f"{path} (no such folder)" for path in card_folders(own)[1:]]
    return f"{own}" + (f", nor by $LTGC_CARDS in {' or '.join(others)}" if others else "")


def folders_of(variable: str) -> list[Path]:
    """Return the folders that an environment variable lists, separated as in ``$PATH``."""
    return [Path(os.path.expanduser(word)) for word in os.environ.get(variable, "").split(os.pathsep) if word]


def _parse_front_matter(path: Path, text: str) -> Entry:
    """Return the front matter, with the file's line numbers; a ModelError lists every problem, one per line."""
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if i and line.rstrip() == "---"), None)
    if lines[0].rstrip() != "---" or end is None:
        raise ModelError(f"{path}:1: expected front matter: YAML between two lines '---', then prose")
    front = "\n".join(["", *lines[1:end]])  # an empty line in place of the first '---' keeps the line numbers
    if len(front) > MAX_FRONT:
        raise ModelError(f"{path}:1: {len(front)} characters of front matter; a model card has at most {MAX_FRONT}")
    if (brackets := front.count("[") + front.count("{")) > MAX_BRACKETS:
        raise ModelError(f"{path}:1: {brackets} brackets in front matter; a model card has at most {MAX_BRACKETS}")
    problems: list[Problem] = []
    root = parse_yaml(front, Place(str(path), 0, path.parent), problems, "model card")
    if problems:
        raise ModelError("\n".join(map(str, problems)))
    if root is None or not isinstance(root.value, dict):
        raise ModelError(f"{path}:1: expected front matter with keys such as 'name:' and 'role:'")
    return root


def _values_of(entry: Entry) -> Any:
    """Return the values without their places; refuse control characters and the like, which nothing should print."""
    value: Value = entry.value
    if isinstance(value, dict):
        return {key: _values_of(each) for key, each in value.items()}
    if isinstance(value, str) and printable(value) != value:
        raise ModelError(f"{entry.place}: a character that cannot be shown in '{printable(value)[:80]}'; remove it")
    return [_values_of(each) for each in value] if isinstance(value, list) else value


def _line_of(root: Entry, error: dict[str, Any]) -> int:
    """Return the line of a problem's outermost key, or the first line if that key is missing."""
    child = root.value.get(error["loc"][0]) if isinstance(root.value, dict) else None
    return 1 if child is None else child.place.line or 1


def _explain(error: dict[str, Any]) -> str:
    key = printable(".".join(map(str, error["loc"])))
    if error["type"] == "missing":
        return f"missing key '{key}'"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, ModelCard.model_fields, n=1)
        return f"unknown key '{key}'" + (f"; did you mean '{close[0]}'?" if close else "")
    found = shorten(repr(error["input"]), 200, placeholder=" …")
    return f"{key}: {error['msg'].replace('Input should be', 'expected')}; found {found}"
