"""What a recipe is laid together from: its base, itself, presets, a table's rows and ``--set`` options.

    base of the base < base < recipe < presets < row of a table < --set

A recipe's base has no base of its own; the recipe under a table may have one, for a table is no recipe by itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ltgc_local.recipe.messages import did_you_mean
from ltgc_local.regular_files import read_bytes
from ltgc_local.shipped import resolve_shipped
from ltgc_local.yaml_tree import MAX_BYTES, Entry, Place, Problem, parse_yaml

Block = dict[str, Entry]

#: What only a whole recipe writes, and a preset or a row does not.
OWN_KEYS = ("name", "base", "rows")


@dataclass(frozen=True)
class Layers:
    """A recipe's keys, all but the options laid together; of a table also what each row changes."""

    place: Place
    block: Block
    rows: Block | None


def read_layers(path: Path, base: Path | None, presets: Sequence[Path], problems: list[Problem]) -> Layers | None:
    """Read a recipe or table with its base and presets; None where one of them cannot be read."""
    place = Place(str(path), 0, path.parent)
    block = _read_block(path, place, place, problems)
    if block is None:
        return None
    rows = _read_rows(block, problems)
    if base is not None and "rows" not in block:
        text = f"is for a table, and {path} has no 'rows:'; lay a preset over it by --preset, or write a 'base:'"
        problems.append(Problem(Place(f"--base {base}", 2, Path.cwd(), is_file=False), "", text))
        return None
    is_table = block.pop("rows", None) is not None
    merged = _lay_over_base(path, block, base, 2 if is_table else 1, problems)
    for preset in presets:
        top = _read_preset(preset, problems)
        merged = merge(merged, top) if merged is not None and top is not None else None
    return Layers(place, merged, rows if is_table else None) if merged is not None else None


def _lay_over_base(
    path: Path, block: Block, instead: Path | None, levels: int, problems: list[Problem]
) -> Block | None:
    """Return a recipe over its ``base:``, or over ``instead``; None where the base cannot be read."""
    entry = block.pop("base", None)
    if instead is not None:
        asked_at, base_path = Place(f"--base {instead}", 2, Path.cwd(), is_file=False), instead
    elif entry is None:
        return block
    elif isinstance(entry.value, str) and is_path(entry.value):
        asked_at, base_path = entry.place, path.parent / os.path.expanduser(resolve_shipped(entry.value))
    else:
        problems.append(Problem(entry.place, "base", "expected the path of another recipe, such as 'base: other.yaml'"))
        return None
    base = _read_block(base_path, Place(str(base_path), 1, base_path.parent), asked_at, problems)
    if base is None:
        return None
    if "rows" in base:
        problems.append(Problem(base["rows"].place, "rows", "a base is one recipe, and this is a table of them"))
        return None
    if levels == 1 and "base" in base:
        chain = f"a base has no base of its own, and {path} is based on this file; join the two"
        problems.append(Problem(base["base"].place, "base", chain))
        return None
    under = _lay_over_base(base_path, base, None, levels - 1, problems)
    if under is None:
        return None
    under.pop("name", None)
    return merge(under, block)


def _read_rows(block: Block, problems: list[Problem]) -> Block | None:
    """Return a table's rows; None where it has none, or they are wrong."""
    entry = block.get("rows")
    if entry is None:
        return None
    if not isinstance(entry.value, dict) or not entry.value:
        problems.append(Problem(entry.place, "rows", "expected names and under each the keys that it changes"))
        return None
    for name, row in entry.value.items():
        if not isinstance(row.value, dict | None):
            text = f"expected the keys that the row changes, or nothing; found {row.text or 'a list'}"
            problems.append(Problem(row.place, f"rows.{name}", text))
        elif row.value:
            _refuse_own_keys(row.value, f"rows.{name}.", problems)
    return entry.value


def _read_preset(path: Path, problems: list[Problem]) -> Block | None:
    asked_at = Place(f"--preset {path}", 2, Path.cwd(), is_file=False)
    block = _read_block(path, Place(str(path), 1, path.parent), asked_at, problems)
    if block is not None:
        _refuse_own_keys(block, "", problems)
    return block


def _refuse_own_keys(block: Block, path: str, problems: list[Problem]) -> None:
    for key in OWN_KEYS:
        if key in block:
            text = "only a whole recipe has this key; remove it"
            problems.append(Problem(block.pop(key).place, f"{path}{key}", text))


def _read_block(path: Path, place: Place, asked_at: Place, problems: list[Problem]) -> Block | None:
    """Read one file's top level; ``asked_at`` is where a missing file is to be reported."""
    via = "" if asked_at is place or not asked_at.is_file else f"base {path}: "
    try:
        content = read_bytes(path, MAX_BYTES)
    except FileNotFoundError:
        problems.append(Problem(asked_at, "", f"{via}no such file{_other_recipes(path)}"))
        return None
    except IsADirectoryError:
        problems.append(Problem(asked_at, "", f"{via}this is a folder; name a recipe{_other_recipes(path / '_')}"))
        return None
    except OSError as error:
        problems.append(Problem(asked_at, "", f"{via}cannot be read: {error.strerror}"))
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
    names = sorted(file.name for file in path.parent.glob("*.yaml")) if os.path.isdir(path.parent) else []
    meant = did_you_mean(path.name, names)
    return meant or (f"; there are {', '.join(names)}" if names else "")


def merge(base: Block, block: Block) -> Block:
    """Lay a recipe over its base, key by key within the blocks; a null in a block's place takes it back."""
    merged = dict(base)
    for key, entry in block.items():
        under = base.get(key)
        written = {} if entry.value is None and not is_null(entry) else entry.value
        if under is not None and isinstance(under.value, dict) and isinstance(written, dict):
            merged[key] = Entry(entry.place, under.value | written)
        else:
            merged[key] = entry
    return merged


def apply_override(block: Block | None, override: str, order: int, problems: list[Problem]) -> None:
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


def is_null(entry: Entry) -> bool:
    """Return whether null was written, and not just nothing."""
    return entry.value is None and bool(entry.text)


def is_path(text: str) -> bool:
    """Return whether a text can be a path at all."""
    return bool(text) and "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
