"""Read a recipe, its base and the command line's ``--set`` options; report every problem at once, with its line.

Rules between several keys are checked once each key is right by itself. Weights and images are not looked at: those are
a step's business.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltgc_local.errors import RecipeError
from ltgc_local.recipe.files import check_files_of
from ltgc_local.recipe.lines import MAX_BYTES, Entry, Place, Problem, locate, parse_yaml
from ltgc_local.recipe.schema import Recipe
from ltgc_local.recipe.words import (
    block_keys,
    describe_missing,
    describe_unknown,
    describe_value_problem,
    did_you_mean,
    field_at,
    is_path_field,
    sort_problems,
)

Block = dict[str, Entry]


def load_recipe(path: Path | str, overrides: Sequence[str] = (), *, check_files: bool = True) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the YAML file; relative paths in it start at its folder. Its ``base:``, another recipe, gives the keys
            that it does not write itself, but never the name: two of one name would share a run directory.
        overrides: the command line's ``--set`` options, such as "train.lr=3e-4"; the last of a key counts, and relative
            paths start at the current folder.
        check_files: also require that what ``data`` and ``models.cards`` name is there and that the cards fit their
            roles.

    Raises:
        RecipeError: with every problem found, one a line.
        ModelError: the recipe is right, but a card in its folder of cards is not.
    """
    problems: list[Problem] = []
    path = Path(path)
    place = Place(str(path), 0, path.parent)
    block = _read_with_base(path, place, problems)
    for order, override in enumerate(overrides, start=2):
        _apply_override(block, override, order, problems)
    if block is None:
        raise RecipeError(sort_problems(problems))

    root = Entry(place.at(1), block)
    plain = _plain_values(block)
    recipe = None
    try:
        recipe = Recipe.model_validate(plain)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            problems += _explain(dict(details), root)
    if check_files:
        check_files_of(plain, root, problems)
    if recipe is None or problems:
        raise RecipeError(sort_problems(problems))
    return recipe


def _read_with_base(path: Path, place: Place, problems: list[Problem]) -> Block | None:
    """Read the recipe, then the file of its ``base:`` under it; None where either cannot be read."""
    block = _read_block(path, place, place, problems)
    if block is None or "base" not in block:
        return block
    entry = block.pop("base")
    if not isinstance(entry.value, str) or not _is_path(entry.value):
        problems.append(Problem(entry.place, "base", "expected the path of another recipe, such as 'base: other.yaml'"))
        return None
    base_path = path.parent / os.path.expanduser(entry.value)
    base = _read_block(base_path, Place(str(base_path), 1, base_path.parent), entry.place, problems)
    if base is None:
        return None
    if "base" in base:
        chain = f"a base has no base of its own, and {path} is based on this file; join the two"
        problems.append(Problem(base["base"].place, "base", chain))
        return None
    base.pop("name", None)
    return _merge(base, block)


def _read_block(path: Path, place: Place, asked_at: Place, problems: list[Problem]) -> Block | None:
    """Read one file's top level; ``asked_at`` is where a missing file is to be reported."""
    via = "" if asked_at is place else f"base {path}: "
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        problems.append(Problem(asked_at, "", f"{via}no such file{_other_recipes(path)}"))
        return None
    except IsADirectoryError:
        problems.append(Problem(asked_at, "", f"{via}this is a folder; name a recipe{_other_recipes(path / '_')}"))
        return None
    except OSError as error:
        problems.append(Problem(asked_at, "", f"{via}cannot be read: {error.strerror}"))
        return None
    if len(content) > MAX_BYTES:
        problems.append(Problem(place, "", f"{len(content)} bytes; a recipe has at most {MAX_BYTES}"))
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(
            Problem(place.at(line), "", f"not UTF-8 text (byte 0x{content[error.start]:02x}); save it as UTF-8")
        )
        return None
    entry = parse_yaml(text, place, problems)
    if entry is None:
        return None
    if entry.value is None:
        problems.append(Problem(place, "", "empty; a recipe has at least 'name:', 'data:' and 'models:'"))
        return None
    if not isinstance(entry.value, dict):
        problems.append(Problem(place.at(1), "", "expected keys such as 'name:' and 'data:'; found no key at all"))
        return None
    return entry.value


def _other_recipes(path: Path) -> str:
    names = sorted(file.name for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    meant = did_you_mean(path.name, names)
    return meant or (f"; there are {', '.join(names)}" if names else "")


def _merge(base: Block, block: Block) -> Block:
    """Lay a recipe over its base, key by key within the blocks."""
    merged = dict(base)
    for key, entry in block.items():
        under = base.get(key)
        if under is not None and isinstance(under.value, dict) and isinstance(entry.value, dict | None):
            merged[key] = Entry(entry.place, {**under.value, **(entry.value or {})})
        else:
            merged[key] = entry
    return merged


def _apply_override(block: Block | None, override: str, order: int, problems: list[Problem]) -> None:
    place = Place(f"--set {override}", order, Path.cwd(), is_file=False)
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys) or len(keys) > 2:
        problems.append(Problem(place, "", "expected key=value, such as --set train.lr=3e-4"))
        return
    entry = parse_yaml(text, place, problems)
    if entry is None or block is None:
        return
    if isinstance(entry.value, dict | list):
        problems.append(Problem(place, dotted, "expected one value; put a text that contains ': ' in quotes"))
    elif keys == ["base"]:
        problems.append(Problem(place, "", "'base' can only be written in the recipe"))
    elif len(keys) == 1:
        block[keys[0]] = entry
    else:
        home = block.get(keys[0])
        if home is None or not isinstance(home.value, dict):
            home = Entry(place, {}) if home is None or home.value is None else home
            block[keys[0]] = home
        if isinstance(home.value, dict):
            home.value[keys[1]] = entry


def _plain_values(block: Block) -> dict[str, Any]:
    """Return the values alone, as the schema wants them: an empty block is a block, paths are absolute."""
    blocks = block_keys()

    def plain(entry: Entry, loc: tuple[str, ...]) -> Any:
        if isinstance(entry.value, dict):
            return {key: plain(child, (*loc, key)) for key, child in entry.value.items()}
        if entry.value is None and loc[-1] in blocks and len(loc) == 1:
            return {}
        field = field_at(loc)
        if field is not None and is_path_field(field) and isinstance(entry.value, str) and _is_path(entry.value):
            return _absolute(entry.place.folder, entry.value)
        return entry.value

    return {key: plain(entry, (key,)) for key, entry in block.items()}


def _is_path(text: str) -> bool:
    return bool(text) and "\0" not in text


def _absolute(folder: Path, text: str) -> Path:
    """Return the absolute path of ``text`` as seen from ``folder`` (by os.path: pathlib raises on a loop of links)."""
    return Path(os.path.realpath(os.path.join(folder, os.path.expanduser(text))))


def _explain(error: dict[str, Any], root: Entry) -> list[Problem]:
    """Turn one of pydantic's errors into problems in plain words."""
    loc = tuple(str(part) for part in error["loc"][:2])
    block, key, path = ".".join(loc[:-1]), loc[-1] if loc else "", ".".join(loc)
    place, entry = locate(root, loc)
    field = field_at(loc)
    if error["type"] == "conflict":
        found = [((*loc, *where.split(".")), text) for where, text in error["ctx"]["found"]]
        return [Problem(locate(root, where)[0], ".".join(where), text) for where, text in found]
    if error["type"] == "missing" and field is not None:
        return [Problem(place, block, describe_missing(block, key, field))]
    if error["type"] == "extra_forbidden" and entry is not None:
        return [Problem(place, block, describe_unknown(block, key, entry))]
    if field is None or entry is None:  # a kind of error that this version of pydantic has added
        return [Problem(place, path, error["msg"])]
    if isinstance(field.annotation, type) and key in block_keys() and len(loc) == 1:
        keys = ", ".join(block_keys()[key][:3])
        return [Problem(place, path, f"expected a block of keys, such as {keys}; found {_shown(entry)}")]
    return [Problem(place, path, describe_value_problem(field, entry))]


def _shown(entry: Entry) -> str:
    return "a list" if isinstance(entry.value, list) else f"'{entry.text}'"
