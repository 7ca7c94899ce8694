"""A site profile as a YAML file that explains every key: those that were found are set, the others are comments."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ltgc_local.recipe.markers import block_of
from ltgc_local.slurm.profile import Profile
from ltgc_local.yaml_tree import resolve_scalar

WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z0-9_./@%^+-][A-Za-z0-9_./@:%^+=${}-]*")


def write_profile(profile: Profile, notes: Sequence[str] = ()) -> str:
    """Return a profile's file.

    Args:
        notes: lines of comment at its top, such as the cluster's partitions.
    """
    lines = [
        "# Site profile of ltgc-local: what this cluster calls its partitions, and how its jobs begin.",
        "# A key that stands as a comment has the value that is shown. Check with: ltgc-local slurm profile --check",
        *(f"# {line}" for line in notes),
        "",
    ]
    return "\n".join([*lines, *_block(profile, "")]) + "\n"


def _block(values: BaseModel, indent: str) -> Iterator[str]:
    for name, field in type(values).model_fields.items():
        value = getattr(values, name)
        words = " ".join((field.description or "").replace("``", "'").split())
        if block_of(field) is None:
            yield from textwrap.wrap(words, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
            yield from _key(name, value, field, indent)
        else:
            about = " ".join((type(value).__doc__ or "").split())
            yield ""
            yield from textwrap.wrap(about, WIDTH, initial_indent="# ", subsequent_indent="# ")
            yield f"{name}:"
            yield from _block(value, "  ")


def _key(name: str, value: Any, field: FieldInfo, indent: str) -> Iterator[str]:
    sign = "# " if value == field.get_default(call_default_factory=True) else ""
    if isinstance(value, dict) and value:
        yield f"{indent}{name}:"
        yield from (f"{indent}  {key}: {_scalar(each)}" for key, each in value.items())
    else:
        shown = f"[{', '.join(map(_scalar, value))}]" if isinstance(value, list) else _scalar(value)
        yield f"{indent}{sign}{name}: {'{}' if value == {} else shown}"


def _scalar(value: Any) -> str:
    """Return a value as YAML: text in quotes where it would mean something else without."""
    if value is None:
        return "null"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and resolve_scalar(value) == value and value[-1] != ":":
        return value
    return json.dumps(value, ensure_ascii=False)
