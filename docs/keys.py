"""Every key of a recipe, read off the schema's fields and docstrings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ltgc_local.recipe.uses import DESCRIBED, DIFFUSION, UNUSED
from ltgc_local.recipe.words import _expected
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ltgc_local.recipe.schema import NOT_SHAPING, Recipe

SOURCES = {"[paper": "paper", "[released code": "released code", "[IP-Adapter": "IP-Adapter", "urs": "ours"}
#: Kind of recipe -> what it does not use.
KINDS = {
    "ltgc": UNUSED["ltgc"],
    "tgn wavelet_gan": UNUSED["tgn"],
    "tgn diffusion classes": UNUSED[DIFFUSION],
    "tgn diffusion descriptions": UNUSED[DESCRIBED],
}


@dataclass(frozen=True)
class Key:
    """One key, and the kinds of recipes that have it."""

    name: str  # dotted
    recipes: tuple[str, ...]
    values: str  # type and range, or the choices
    default: str  # as one writes it; "" for a key that must be written
    source: str
    note: str
    changes: str  # results, speed or memory, or which steps there are
    meaning: str


def iterate_keys() -> Iterator[Key]:
    """Yield every key of a recipe in the schema's order, blocks' keys under their dotted names."""
    for name, field in Recipe.model_fields.items():
        block: Any = field.annotation
        if isinstance(block, type) and issubclass(block, BaseModel):
            yield from (_key(f"{name}.{key}", inner) for key, inner in block.model_fields.items())
        else:
            yield _key(name, field)


def _key(name: str, field: FieldInfo) -> Key:
    words = " ".join((field.description or "").split())
    source = ", ".join(work for tag, work in SOURCES.items() if tag in words)
    recipes = tuple(kind for kind, unused in KINDS.items() if not {name, name.split(".")[0]} & set(unused))
    default = "" if field.is_required() else json.dumps(field.default)
    steps = name.endswith((".enabled", ".control"))
    changes = "results" if name not in NOT_SHAPING else "which steps there are" if steps else "speed or memory"
    return Key(name, recipes, _expected(field), default, source, "", changes, re.sub(r" Ours\.$", "", words))
