"""Messages about a recipe's keys: what is expected, what was found, and what was probably meant."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ltgc_local.recipe.markers import block_of
from ltgc_local.recipe.schema import DISCRIMINATORS, VARIANTS, Recipe
from ltgc_local.yaml_tree import Entry, Problem, resolve_scalar

#: What people write for a key: the paper's symbols and other libraries' names.
SYNONYMS = {
    "mu": "threshold",
    "require_rank": "margin_rank",
    "k_y": "max_descriptions",
    "learning_rate": "lr",
    "rank": "lora_rank",
    "guidance_scale": "guidance",
    "num_inference_steps": "steps",
    "alpha": "mix_alpha",
    "num_epochs": "epochs",
    "dataset": "benchmark",
}
_LONGEST_FOUND = 60
_KEY_CUTOFF = 0.7  # lower, and 'scale' is taken for 'sampler'
_WRITTEN_AS: dict[Any, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float)}


def field_at(recipe: type[BaseModel], loc: tuple[str, ...]) -> FieldInfo | None:
    """Return the field of a class of recipes, or of another file, at ("train", "lr") or ("seed",), if it has it."""
    model: type[BaseModel] | None = recipe
    field = None
    for part in loc:
        field = model.model_fields.get(part) if model is not None else None
        model = block_of(field) if field is not None else None
    return field


def is_path_field(field: FieldInfo) -> bool:
    """Return whether a field is a path, or a path or null."""
    return _unwrap(field.annotation)[0] is Path


def block_keys(recipe: type[BaseModel]) -> dict[str, list[str]]:
    """Return the keys of each block of a class of recipes, or of another file, in order; its own keys under ""."""
    blocks = {name: block_of(field) for name, field in recipe.model_fields.items()}
    return {"": list(blocks)} | {name: list(block.model_fields) for name, block in blocks.items() if block is not None}


def describe_value_problem(loc: tuple[str, ...], field: FieldInfo, entry: Entry) -> str:
    """Return "expected …, found …" for a value of the wrong type, out of range or not among the choices."""
    kind, _ = _unwrap(field.annotation)
    choices = _choices(loc, kind)
    text = f"expected {describe_values(loc, field)}; found {_found(entry)}"
    if choices:
        return text + did_you_mean(entry.text, choices)
    if kind is str and isinstance(entry.value, bool | int | float):
        return text + " (in quotes it is text)"
    if kind is str and entry.value is None and not field.is_required():
        return text + ' ("" is the empty text)'
    if isinstance(entry.value, str) and type(resolve_scalar(entry.value)) in _WRITTEN_AS.get(kind, ()):
        return text + " (remove the quotes)"
    return text


def describe_missing(key: str, field: FieldInfo) -> str:
    """Return what to type for a key or block that must be there."""
    block = block_of(field)
    if block is not None:
        required = [name for name, inner in block.model_fields.items() if inner.is_required()]
        return f"missing block '{key}'; write '{key}:' and under it {_list(required, 'and')}"
    example = field.examples[0] if field.examples else "…"
    return f"missing key '{key}'; write for example '{key}: {example}'"


def describe_unused(recipe: type[Recipe], loc: tuple[str, ...]) -> str:
    """Return why a class of recipes lacks a block or key that another has; "" if it has it, or none has."""
    using = {choices: other for choices, other in VARIANTS.items() if field_at(other, loc) is not None}
    if not using or recipe in using.values():
        return ""
    mine = next(choices for choices, other in VARIANTS.items() if other is recipe)
    near = [choices for choices in using if choices[0] == mine[0]]
    if not near:
        return f"method {mine[0]} does not use it; remove it"
    if near[0][1] != mine[1]:
        return f"the generator '{mine[1]}' does not use it; remove it, or write 'generator: {near[0][1]}'"
    return f"diffusion.prompts '{mine[2]}' does not use it; remove it, or write 'prompts: {near[0][2]}'"


def describe_unknown(recipe: type[Recipe], block: str, key: str, entry: Entry) -> str:
    """Return what was probably meant by a key that is not in this block ("" is the recipe itself)."""
    blocks = block_keys(recipe)
    kind = "block" if not block and isinstance(entry.value, dict) else "key"
    text = f"unknown {kind} '{key}'"
    head, _, rest = key.partition(".")
    if not block and rest in blocks.get(head, []):
        return f"{text}; write '{head}:' and under it '{rest}:'"
    homes = [name for name, keys in blocks.items() if key in keys and name != block]
    if homes:
        places = [f"in '{home}'" if home else "at the top, outside any block" for home in homes]
        return f"{text}; it belongs {_list(places, 'or', quote=False)}"
    synonym = SYNONYMS.get(key.lower())
    if synonym in blocks[block]:
        return f"{text}; did you mean '{synonym}'?"
    guess = did_you_mean(key, blocks[block], cutoff=_KEY_CUTOFF)
    if guess:
        return text + guess
    dotted = {name: f"{home}.{name}" for home, keys in blocks.items() if home for name in keys}
    meant = synonym if synonym in dotted else _closest(key, dotted, _KEY_CUTOFF)
    if meant is not None:
        return f"{text}; did you mean '{dotted[meant]}'?"
    return f"{text}; {f'the keys of {block!r}' if block else 'the keys of a recipe'} are {', '.join(blocks[block])}"


def did_you_mean(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return "; did you mean 'x'?" for the closest choice, or "" if none is close."""
    meant = _closest(word, choices, cutoff)
    return f"; did you mean '{meant}'?" if meant is not None else ""


def sort_problems(problems: Iterable[Problem]) -> str:
    """Return every problem once, one per line, by source and line."""
    ordered = sorted(dict.fromkeys(problems), key=lambda p: (p.place.order, p.place.line or 0))
    return "\n".join(dict.fromkeys(map(str, ordered)))


def _closest(word: str, choices: Iterable[str], cutoff: float) -> str | None:
    by_lower = {choice.lower(): choice for choice in reversed(list(choices))}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def _choices(loc: tuple[str, ...], kind: Any) -> tuple[str, ...]:
    """Return what may be written for a key with fixed choices; () for any other key."""
    if loc in DISCRIMINATORS:  # each class of recipes declares only its own choice
        place = DISCRIMINATORS.index(loc)
        return tuple(dict.fromkeys(choices[place] for choices in VARIANTS if len(choices) > place))
    return get_args(kind) if get_origin(kind) is Literal else ()


def describe_values(loc: tuple[str, ...], field: FieldInfo) -> str:
    """Return what may be written for a key: a type and its range, or the choices."""
    kind, optional = _unwrap(field.annotation)
    choices = _choices(loc, kind)
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "expected" in extra:
        words = str(extra["expected"])
    elif choices:
        words = f"'{choices[0]}'" if len(choices) == 1 else f"one of {', '.join(map(repr, choices))}"
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        words = "a block of keys"
    else:
        words = {bool: "true or false", int: "a whole number", float: "a number", Path: "the path of a folder"}.get(
            kind, "text"
        ) + _bounds(field)
    return words + (" (or null)" if optional else "")


def _bounds(field: FieldInfo) -> str:
    names = ("ge", "gt", "le", "lt", "multiple_of")
    limits = {name: getattr(mark, name) for mark in field.metadata for name in names if hasattr(mark, name)}
    if "ge" in limits and limits.keys() & {"le", "lt"}:
        high = limits["le"] if "le" in limits else f"below {limits['lt']}"
        text = f" from {limits['ge']} to {high}"
    else:
        words = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
        parts = [words[name].format(limit) for name, limit in limits.items() if name in words]
        text = f"{',' if 'ge' in limits else ''} {', '.join(parts)}" if parts else ""
    return text + (f", a multiple of {limits['multiple_of']}" if "multiple_of" in limits else "")


def _found(entry: Entry) -> str:
    value, text = entry.value, entry.text
    shown = text if len(text) <= _LONGEST_FOUND else text[:_LONGEST_FOUND] + "…"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return f"'{shown}', which means {str(value).lower()}"
    return shown if isinstance(value, int | float) else f"the text {shown!r}"


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    """Return the type within ``X | None``, and whether None is allowed."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0], True
    return annotation, False


def _list(words: list[str], last: str, *, quote: bool = True) -> str:
    shown = [f"'{word}'" for word in words] if quote else words
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"
