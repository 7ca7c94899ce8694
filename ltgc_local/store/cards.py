"""Model cards: one Markdown file a model, YAML front matter for the program and prose for people.

A card names a folder of weights (``ltgc_local.store.folders``).
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ltgc_local.errors import ModelError
from ltgc_local.records import Evidence

Role = Literal["vlm", "llm", "t2i", "clip", "backbone"]
ROLES: tuple[Role, ...] = get_args(Role)


class FewStepCard(BaseModel):
    """How a distilled text-to-image checkpoint (Lightning, LCM, Hyper, Turbo) wants to be drawn with."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    steps: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Numbers of steps that it was distilled for; ``draw.steps`` must be one of them."""
    guidance: float = Field(default=0.0, ge=0)
    """Guidance that it stands at most; at 1 or less ``draw.guidance`` must ask for none."""
    scheduler: Literal["euler", "euler_ancestral", "ddim", "lcm"] | None = None
    """Scheduler that it was distilled for; null: the folder's own."""
    timestep_spacing: Literal["trailing", "leading", "linspace"] | None = None
    """Where the steps are; null: as the scheduler has it."""
    lora: str | None = Field(default=None, pattern=r"^[\w][\w .-]*(/[\w][\w .-]*)*\.safetensors$")
    """File in the model's folder that is fused into the base model's weights; null: the folder is distilled itself."""


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
    tensor_parallel: int | None = Field(default=None, ge=1, le=64)
    """GPUs that one copy of a vlm or llm needs, where the recipe does not say."""
    parameters_millions: float | None = Field(default=None, gt=0)
    """Number of parameters, in millions."""
    few_step: FewStepCard | None = None
    """Of a distilled t2i: what it was distilled for."""
    tiny_decoder: str | None = Field(default=None, pattern=r"^[\w][\w.-]*(/[\w][\w.-]*)*$")
    """Of a t2i: folder, in the model's folder, of a small decoder of its latents (diffusers' AutoencoderTiny), which
    recipes ask for by ``draw.decoder: tiny``."""
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
