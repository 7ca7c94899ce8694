"""Descriptions as {features: […], scene: "…"}: the schema for constrained decoding, and a tolerant reader.

The reader also accepts what models write without the constraint: code fences, chatter, single quotes, trailing commas,
replies that are cut off, other spellings of the keys, and tables with a column of features and one of scenes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

from ltgc_local.methods.ltgc.replies.cleaning import clean
from ltgc_local.methods.ltgc.replies.template_1 import (
    CUT_OFF,
    PHOTO_OF,
    Reading,
    is_scene,
    opening,
    parse_sentence,
    render,
)

#: One description.
DESCRIPTION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "features": {
            "type": "array",
            "items": {"type": "string", "minLength": 3, "maxLength": 80},
            "minItems": 1,
            "maxItems": 5,
        },
        "scene": {"type": "string", "minLength": 3, "maxLength": 120},
    },
    "required": ["features", "scene"],
    "additionalProperties": False,
}
#: Values contain no objects, so an object ends at the next brace; the last one may be cut off.
_OBJECT = re.compile(r"\{[^{}]*(?:\}|\Z)")
_STRING = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.|'(?=\w))*'(?!\w)"
_MEMBER = re.compile(rf"[\"']([^\"'\n]{{1,40}})[\"']\s*:\s*(\[[^\[\]]*\]|{_STRING})", re.DOTALL)
_VALUE = re.compile(_STRING, re.DOTALL)
_FEATURES = re.compile("feature", re.IGNORECASE)
_SCENE = re.compile("scene|setting|location|background", re.IGNORECASE)
_PHOTO_OF = re.compile(PHOTO_OF, re.IGNORECASE)

#: The text of a description, and how it reads.
Item = tuple[str, Reading]


def descriptions_schema(num_wanted: int) -> dict[str, Any]:
    """Return the schema of a list of exactly ``num_wanted`` descriptions."""
    items = {"type": "array", "items": DESCRIPTION_SCHEMA, "minItems": num_wanted, "maxItems": num_wanted}
    return {
        "type": "object",
        "properties": {"descriptions": items},
        "required": ["descriptions"],
        "additionalProperties": False,
    }


def take_objects(text: str, class_name: str) -> tuple[list[Item], str]:
    """Read the JSON descriptions in a text; return them and the text without them.

    An object that was cut off counts if its list of features is whole.
    """
    items: list[Item] = []

    def take(found: re.Match[str]) -> str:
        features, scene, is_whole = [], [], found[0].endswith("}")
        for key, value in _MEMBER.findall(found[0]):
            if _FEATURES.search(key):
                features += _strings(value)
            elif _SCENE.search(key):
                scene += _strings(value)
        if features or (scene and is_whole):
            items.append((found[0], _read(class_name, features, " ".join(scene))))
        elif not is_whole and _FEATURES.search(found[0]):
            items.append((found[0], Reading("", CUT_OFF)))
        else:
            return found[0]
        return "\n"

    return items, _OBJECT.sub(take, text)


def take_tables(text: str, class_name: str) -> tuple[list[Item], str]:
    """Read the tables in a text: return the rows under columns of features and scenes, and the text without them.

    From other tables the cell that begins like Template 1 is kept, with the following cells that continue with a scene.
    """
    if "|" not in text or "|" in class_name:
        return [], text
    items: list[Item] = []
    rest: list[str] = []
    columns: tuple[int, int] | None = None
    for line in text.split("\n"):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if "|" in line else []
        if not cells:
            columns = None
            rest.append(line)
        elif found := _header(cells):
            columns = found
        elif all(not cell.strip("-: ") for cell in cells):
            continue
        elif columns and len(cells) > max(columns):
            items.append((line, _read(class_name, [cells[columns[0]]], cells[columns[1]])))
        else:
            rest.append(_row(cells))
    return items, "\n".join(rest)


def _read(class_name: str, features: Sequence[str], scene: str) -> Reading:
    """Render a description, unless one of its parts already is one."""
    whole = next((part for part in (*features, scene) if opening(class_name).search(part)), "")
    return parse_sentence(whole or render(class_name, features, scene), class_name)


def _strings(value: str) -> list[str]:
    return [_decode(text) for text in _VALUE.findall(value)]


def _decode(quoted: str) -> str:
    """Return the text of a JSON or Python string on one line; invalid escapes stay as they are."""
    text = quoted[1:-1]
    if quoted[0] == '"' and "\\" in text:
        with suppress(ValueError):
            text = json.loads(quoted, strict=False)
    return " ".join(clean(text).split())


def _header(cells: Sequence[str]) -> tuple[int, int] | None:
    """Return the columns of features and scenes if this row is their heading."""
    features, scenes = (
        [i for i, cell in enumerate(cells) if name.search(cell) and len(cell) < 40] for name in (_FEATURES, _SCENE)
    )
    return (features[0], scenes[0]) if features and scenes and features[0] != scenes[0] else None


def _row(cells: Sequence[str]) -> str:
    first = next((i for i, cell in enumerate(cells) if _PHOTO_OF.search(cell)), None)
    if first is None:
        return " ".join(cells)
    return " ".join([cells[first], *takewhile(is_scene, cells[first + 1 :])])
