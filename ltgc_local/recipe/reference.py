"""Every key of a recipe with what the schema says about it, for the pages that document recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic.fields import FieldInfo

from ltgc_local.recipe.markers import Digested, Plans, Presents, Runtime, Source, iterate_fields, marker
from ltgc_local.recipe.messages import describe_values
from ltgc_local.recipe.schema import VARIANTS

#: Marker -> what a field with it changes; a field without one changes results.
CHANGES: dict[type, str] = {
    Runtime: "speed or memory",
    Plans: "which steps there are",
    Digested: "the data or models, by their digest",
    Presents: "how results are shown",
}


@dataclass(frozen=True)
class Key:
    """One key. ``recipes`` are the kinds of recipes that have it, by method, generator and prompts."""

    name: str  # dotted
    recipes: tuple[str, ...]
    values: str  # type and range, or the choices
    default: str  # as written in a recipe; "" for a required key
    source: str  # of the default: paper, released code or ours
    changes: str
    meaning: str


def iterate_keys() -> Iterator[Key]:
    """Yield every key once, in the order of the schema, as the first kind of recipes that has it declares it."""
    keys: dict[str, Key] = {}
    for choices, recipe in VARIANTS.items():
        kind = (" ".join(choices),)
        for name, field in iterate_fields(recipe):
            known = keys.get(name)
            keys[name] = replace(known, recipes=known.recipes + kind) if known else _key(name, kind, field)
    yield from keys.values()


def _key(name: str, kind: tuple[str, ...], field: FieldInfo) -> Key:
    source = marker(field, Source)
    changes = (words for role, words in CHANGES.items() if marker(field, role) is not None)
    return Key(
        name,
        kind,
        describe_values(tuple(name.split(".")), field),
        "" if field.is_required() else json.dumps(field.default, ensure_ascii=False),
        source.work if source else "ours",
        next(changes, "results"),
        " ".join((field.description or "").split()),
    )
