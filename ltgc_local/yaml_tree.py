"""YAML with positions: every problem in a recipe or a model card names its line.

Differs from YAML 1.1 on purpose: ``3e-4`` is a number, ``010`` is 10, ``1:30`` and ``2024-01-01`` are text. Tags and
merge keys are refused, duplicate keys are problems, and the number of values is limited, counting aliases each time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

MAX_BYTES, MAX_ENTRIES, MAX_DEPTH = 1_000_000, 2_000, 20

_WORDS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("null", "~", "")),
}
_TAGS = {yaml.MappingNode: "map", yaml.SequenceNode: "seq", yaml.ScalarNode: "str"}
_WHOLE = re.compile(r"[-+]?[0-9](_?[0-9]){0,29}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPECIAL = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
_PLAIN_WORDS = (
    ("'\\t'", "a tab where YAML wants spaces"),
    (
        "mapping values are not allowed",
        "unexpected ': ' (a line indented too far, a value with ': ' in it without quotes, "
        "or no space after the colon of the line above)",
    ),
    ("could not find expected ':'", "a line without ': ' (a space must follow the colon)"),
    ("expected a single document", "a second '---'; a {noun} is one document"),
    ("found undefined alias", "an alias ('*name') without its anchor ('&name') above"),
    ("expected <block end>", "the indentation does not match the lines above"),
    ("expected '<document start>'", "the indentation does not match the lines above"),
    ("cannot start any token", "a value that begins with a sign of YAML's; put it in quotes"),
    ("found unexpected end of stream", "a quote that is never closed"),
    ("<stream end>", "a bracket that is never closed"),
)


@dataclass(frozen=True)
class Place:
    """Where something was written: a line of a file, or a command-line option."""

    source: str  # the file as the user named it, or "--set train.lr=3e-4"
    order: int  # of the sources: the recipe 0, its base 1, options from 2
    folder: Path  # relative paths start here
    line: int | None = None  # from 1; None: the whole source
    is_file: bool = True

    def at(self, line: int) -> Place:
        """Return the place of a line; a command-line option has none."""
        return replace(self, line=line) if self.is_file else self

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing to correct. ``path`` is the dotted key, "" for the whole recipe."""

    place: Place
    path: str
    text: str

    def __str__(self) -> str:
        line = ": ".join(part for part in (str(self.place), self.path, self.text) if part)
        return "; ".join(line.splitlines())


@dataclass(frozen=True)
class Entry:
    """A value, the place of its key, and how it was written (``text``, for scalars)."""

    place: Place
    value: Value
    text: str = ""


Value: TypeAlias = bool | int | float | str | list[Any] | dict[str, Entry] | None


def locate(root: Entry, loc: tuple[str, ...]) -> tuple[Place, Entry | None]:
    """Return the place of ``loc`` and its entry; for a missing key, the block's place and None."""
    entry = root
    for part in loc:
        child = entry.value.get(part) if isinstance(entry.value, dict) else None
        if child is None:
            return entry.place, None
        entry = child
    return entry.place, entry


class _Loader(yaml.SafeLoader):
    """Safe loader that leaves plain scalars as text, so that any other tag in the tree was written by somebody.

    It counts while it reads, because PyYAML takes half a minute for a megabyte of brackets or short values.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        if self._nodes > 2 * MAX_ENTRIES or self._depth > 2 * MAX_DEPTH:  # keys are nodes too
            raise _TooMuchError
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _TooMuchError(Exception):
    """There are too many values, or they are nested too deeply."""


def parse_yaml(text: str, place: Place, problems: list[Problem], noun: str = "recipe") -> Entry | None:
    """Parse one YAML document; append what is wrong to ``problems``; return None if nothing can be read.

    Args:
        noun: what the document is, for messages.
    """

    def refuse(line: int | None, words: str) -> None:
        problems.append(Problem(place if line is None else place.at(line), "", words))

    try:
        node = yaml.compose(text, _Loader)
        return Entry(place, None) if node is None else _Walk(place, problems, noun).entry(node, place, "", 0)
    except yaml.MarkedYAMLError as error:
        refuse(_syntax_line(error), _syntax_words(error, noun))
    except yaml.reader.ReaderError as error:
        character: Any = error.character  # a number; the stubs say text
        refuse(text.count("\n", 0, error.position) + 1, f"a character that YAML does not allow: U+{character:04X}")
    except (ValueError, OverflowError):  # PyYAML makes a character of any number after \\U
        refuse(None, "a character written as \\U and 8 digits that does not exist")
    except (_TooMuchError, RecursionError):
        limits = f"a {noun} has at most {MAX_ENTRIES} values, {MAX_DEPTH} levels deep"
        refuse(None, f"too many values, or nested too deeply ({limits}, aliases counted each time)")
    return None


def resolve_scalar(text: str) -> bool | int | float | str | None:
    """Return what a plain (unquoted) scalar means."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.lower().replace(".", "", 1))
    return text


class _Walk:
    """Turns PyYAML's nodes into entries."""

    def __init__(self, place: Place, problems: list[Problem], noun: str) -> None:
        self.root, self.problems, self.noun, self.visited = place, problems, noun, 0

    def entry(self, node: yaml.Node, place: Place, path: str, depth: int) -> Entry:
        self.visited += 1
        if self.visited > MAX_ENTRIES or depth > MAX_DEPTH:
            raise _TooMuchError
        if node.tag != f"tag:yaml.org,2002:{_TAGS[type(node)]}":
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(place, path, f"YAML tag '{tag}' is not used in {self.noun}s; remove it")
        if isinstance(node, yaml.MappingNode):
            return Entry(place, self._block(node, path, depth))
        if isinstance(node, yaml.SequenceNode):
            places = (self.root.at(item.start_mark.line + 1) for item in node.value)
            items = [self.entry(item, at, path, depth + 1) for item, at in zip(node.value, places, strict=True)]
            return Entry(place, items)
        self._refuse_surrogate(node.value, place, path)
        is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return Entry(place, resolve_scalar(node.value) if is_plain else node.value, node.value)

    def _block(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Entry]:
        block: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            place = self.root.at(key_node.start_mark.line + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(place, path, "a key must be a word")
                continue
            key = key_node.value
            self._refuse_surrogate(key, place, path)
            dotted = f"{path}.{key}" if path else key
            if key == "<<":
                instead = "; use 'base:'" if self.noun == "recipe" else ""
                self._refuse(place, path, f"merge keys ('<<') are not used in {self.noun}s{instead}")
                continue
            if key in block:
                self._refuse(place, path, f"key '{key}' appears twice; the first is in line {block[key].place.line}")
            block[key] = self.entry(value_node, place, dotted, depth + 1)
        return block

    def _refuse_surrogate(self, text: str, place: Place, path: str) -> None:
        """Refuse half a character, which a text in quotes can contain: it cannot be printed or written."""
        if half := _SURROGATE.search(text):
            self._refuse(place, path, f"a character that YAML does not allow: U+{ord(half[0]):04X}")

    def _refuse(self, place: Place, path: str, words: str) -> None:
        self.problems.append(Problem(place, path, words))


def _syntax_words(error: yaml.MarkedYAMLError, noun: str) -> str:
    raw = f"{error.context or ''} {error.problem or ''}".strip()
    words = next((words for sign, words in _PLAIN_WORDS if sign in raw), raw)
    return "not valid YAML: " + words.replace("{noun}", noun)


def _syntax_line(error: yaml.MarkedYAMLError) -> int:
    """Return the line to correct: where an unclosed quote or bracket opens, otherwise where the parser gave up."""
    opens = (error.context or "").startswith(("while scanning a", "while parsing a flow"))
    mark = (error.context_mark if opens else None) or error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1
