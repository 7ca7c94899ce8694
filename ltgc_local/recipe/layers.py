"""The layers that make up a recipe: its base, itself, presets, a table's rows and ``--set`` options.

    base of the base < base < recipe < presets < row of a table < --set

A recipe's base has no base of its own. The base of a table may have one, because a table is not itself a recipe.
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

#: Keys of whole recipes; presets and rows cannot have them.
OWN_KEYS = ("name", "base", "rows")


@dataclass(frozen=True)
class Layers:
    """A recipe's keys, merged except for the options; for a table also what each row changes."""

    place: Place
    block: Block
    rows: Block | None


def read_layers(path: Path, base: Path | None, presets: Sequence[Path], problems: list[Problem]) -> Layers | None:
    """Read a recipe or table with its base and presets; None if one of them cannot be read."""
    reader = _Reader(problems)
    place = Place(str(path), 0, path.parent)
    block = reader.read(path, place, place)
    is_table = "rows" in block
    rows = reader.check_rows(block.pop("rows")) if is_table else None
    if base is not None and block and not is_table:
        text = f"is for a table, and {path} has no 'rows:'; apply a preset by --preset, or write a 'base:'"
        reader.fail(_option("--base", base), "", text)
    if reader.failed:
        return None
    merged = reader.lay_over_base(path, block, base, 2 if is_table else 1)
    for preset in presets:
        top = reader.read(preset, Place(str(preset), 1, preset.parent), _option("--preset", preset))
        reader.refuse_own_keys(top, "")
        merged = merge(merged, top)
    return None if reader.failed else Layers(place, merged, rows)


class _Reader:
    """Reads the top levels of files. One that cannot be read is a problem and counts as empty."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems, self.failed = problems, False

    def fail(self, place: Place, key: str, text: str) -> Block:
        self.problems.append(Problem(place, key, text))
        self.failed = True
        return {}

    def lay_over_base(self, path: Path, block: Block, instead: Path | None, levels: int) -> Block:
        """Return a recipe over its ``base:``, or over ``instead``."""
        entry = block.pop("base", None)
        if instead is not None:
            asked_at, base_path = _option("--base", instead), instead
        elif entry is None:
            return block
        elif isinstance(entry.value, str) and is_path(entry.value):
            asked_at, base_path = entry.place, path.parent / os.path.expanduser(resolve_shipped(entry.value))
        else:
            text = "expected the path of another recipe, such as 'base: other.yaml'"
            return self.fail(entry.place, "base", text)
        base = self.read(base_path, Place(str(base_path), 1, base_path.parent), asked_at)
        if "rows" in base:
            return self.fail(base["rows"].place, "rows", "a base is one recipe, and this is a table of them")
        if levels == 1 and "base" in base:
            chain = f"a base has no base of its own, and {path} is based on this file; join the two"
            return self.fail(base["base"].place, "base", chain)
        under = self.lay_over_base(base_path, base, None, levels - 1)
        under.pop("name", None)
        return merge(under, block)

    def check_rows(self, entry: Entry) -> Block | None:
        """Return a table's rows; None if they are not a block."""
        if not isinstance(entry.value, dict) or not entry.value:
            text = "expected names and under each the keys that it changes"
            self.problems.append(Problem(entry.place, "rows", text))
            return None
        for name, row in entry.value.items():
            if not isinstance(row.value, dict | None):
                text = f"expected the keys that the row changes, or nothing; found {row.text or 'a list'}"
                self.problems.append(Problem(row.place, f"rows.{name}", text))
            elif row.value:
                self.refuse_own_keys(row.value, f"rows.{name}.")
        return entry.value

    def refuse_own_keys(self, block: Block, path: str) -> None:
        for key in OWN_KEYS:
            if key in block:
                text = "only a whole recipe has this key; remove it"
                self.problems.append(Problem(block.pop(key).place, f"{path}{key}", text))

    def read(self, path: Path, place: Place, asked_at: Place) -> Block:
        """Read one file's top level; ``asked_at`` is where a missing file is to be reported."""
        via = "" if asked_at is place or not asked_at.is_file else f"base {path}: "
        try:
            content = read_bytes(path, MAX_BYTES)
            text = content.decode("utf-8-sig")
        except FileNotFoundError:
            return self.fail(asked_at, "", f"{via}no such file{_other_recipes(path)}")
        except IsADirectoryError:
            return self.fail(asked_at, "", f"{via}this is a folder; name a recipe{_other_recipes(path / '_')}")
        except OSError as error:
            return self.fail(asked_at, "", f"{via}cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            text = f"not UTF-8 text (byte 0x{content[error.start]:02x}); save it as UTF-8"
            return self.fail(place.at(line), "", text)
        entry = parse_yaml(text, place, self.problems)
        if entry is None:
            self.failed = True
            return {}
        if entry.value is None:
            return self.fail(place, "", "empty; a recipe has at least 'name:', 'data:' and 'models:'")
        if not isinstance(entry.value, dict):
            return self.fail(place.at(1), "", "expected keys such as 'name:' and 'data:'; found no key at all")
        return entry.value


def _option(name: str, value: object, order: int = 2) -> Place:
    return Place(f"{name} {value}", order, Path.cwd(), is_file=False)


def _other_recipes(path: Path) -> str:
    names = sorted(file.name for file in path.parent.glob("*.yaml")) if os.path.isdir(path.parent) else []
    return did_you_mean(path.name, names) or (f"; there are {', '.join(names)}" if names else "")


def merge(base: Block, block: Block) -> Block:
    """Lay a recipe over its base, key by key within the blocks; a null in a block's place removes the block."""
    merged = dict(base)
    for key, entry in block.items():
        under = base.get(key)
        written = {} if entry.value is None and not is_null(entry) else entry.value
        if under is not None and isinstance(under.value, dict) and isinstance(written, dict):
            entry = Entry(entry.place, under.value | written)
        merged[key] = entry
    return merged


def apply_override(block: Block | None, override: str, order: int, problems: list[Problem]) -> None:
    """Apply one ``--set`` option; without a block, only check how it is written."""
    place = _option("--set", override, order)
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
        if home is None or home.value is None:
            home = block[keys[0]] = Entry(place, {})
        if isinstance(home.value, dict):
            home.value[keys[1]] = entry


def is_null(entry: Entry) -> bool:
    """Return whether null was written, as opposed to nothing."""
    return entry.value is None and bool(entry.text)


def is_path(text: str) -> bool:
    """Return whether a text could be a path."""
    return bool(text) and "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
