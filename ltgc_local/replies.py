"""From what a model wrote to descriptions: parsing Template 1 and 2, and the deterministic repetition check.

A reply that does not parse is data, never an exception: what is dropped keeps its reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_CHARACTERS = 600  # of one description; longer is chatter, not a caption
_THINK = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
#: Some chat templates open <think> in the prompt, so that the reply only closes it.
_END_OF_THINK = re.compile(r"\A.*</think>", re.DOTALL | re.IGNORECASE)
_NEXT_SENTENCE = re.compile(r"(?<=[.!?])[\"”]?\s+(?=\S{0,4}\s*[\"“*]*\ba\s+photo\s+of\b)", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*+•·–—]|\(?\d{1,4}[.):]|\(?[a-zA-Z][.)](?=\s))\s*")
_QUOTES = "\"'`“”‘’«»„*_ \t[],"
_WORD = re.compile(r"[^\W_]+")
_SMALL_WORDS = frozenset(
    ("a", "an", "the", "of", "with", "in", "on", "at", "and", "or", "to", "its", "is", "are", "by", "for", "from")
)


@dataclass(frozen=True)
class ParsedReply:
    """The sentences of a reply that are in the template, in order, and the lines that are not, each with a reason."""

    sentences: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]  # (line, reason)


def parse_descriptions(reply: str, class_name: str) -> ParsedReply:
    """Read the Template 1 sentences of a reply about ``class_name``, one a line or one after another."""
    sentences: list[str] = []
    dropped: list[tuple[str, str]] = []
    for line in _lines(reply):
        sentence, reason = parse_sentence(line, class_name)
        if reason:
            dropped.append((line, reason))
        else:
            sentences.append(sentence)
    return ParsedReply(tuple(sentences), tuple(dropped))


def parse_sentence(line: str, class_name: str) -> tuple[str, str]:
    """Bring one line into "A photo of the class [y] ….": returns (sentence, "") or ("", the reason why not)."""
    opening = re.search(
        rf"\ba\s+photo\s+of\s+(?:the\s+class\s+|an?\s+|the\s+)?[\"'*“‘\[]*{_name_pattern(class_name)}"
        rf"(?!\w|[-‐‑'’]\w)[\"'*”’\]]*",
        line,
        re.IGNORECASE,
    )
    if opening is None:
        return "", 'does not begin with "A photo of the class [y]"'
    rest = " ".join(line[opening.end() :].split()).strip(_QUOTES)
    rest = re.split(r"(?<=[.!?])[\"”]?\s", rest, maxsplit=1)[0].rstrip(".!?;:" + _QUOTES)
    if not _WORD.search(rest):
        return "", "states no feature and no scene"
    if any(mark in rest for mark in "{}[]<>"):
        return "", "keeps the template's brackets"
    if len(rest) > MAX_CHARACTERS:
        return "", f"longer than {MAX_CHARACTERS} characters"
    return f"A photo of the class {class_name} {rest}.", ""


def _name_pattern(class_name: str) -> str:
    """Match a class's name, however its blanks, hyphens and apostrophes are written."""
    name = r"\s+".join(re.escape(word) for word in class_name.split())
    return re.sub(r"\\-|[‐‑]", "[-‐‑]", re.sub("['’]", "['’]", name))


def normal_form(sentence: str, class_name: str) -> frozenset[str]:
    """Return the content words of a description, lower case, without the class's name and small words."""
    name = {word.lower() for word in _WORD.findall(class_name)}
    return frozenset(word for word in map(str.lower, _WORD.findall(sentence)) if word not in name | _SMALL_WORDS)


class RepetitionCheck:
    """Remembers a class's descriptions and finds those that say the same again (beside Prompt 3; ours).

    Two descriptions repeat each other if the Jaccard similarity of their normal forms is at least ``similarity``.
    """

    def __init__(self, class_name: str, similarity: float) -> None:
        self._class_name = class_name
        self._similarity = similarity
        self._known: list[frozenset[str]] = []
        self._exact: set[frozenset[str]] = set()

    def is_repetitive(self, sentence: str) -> bool:
        words = normal_form(sentence, self._class_name)
        if words in self._exact:
            return True
        if self._similarity >= 1:
            return False
        return any(_jaccard_at_least(words, known, self._similarity) for known in self._known)

    def add(self, sentence: str) -> None:
        words = normal_form(sentence, self._class_name)
        self._known.append(words)
        self._exact.add(words)


def kept_by_repetition_check(reply: str, class_name: str, asked: Sequence[str]) -> list[bool] | None:
    """Say which of the ``asked`` sentences a reply to Prompt 3 keeps; None if it kept so few that it is no answer.

    The first of two equal sentences is kept. A reply that keeps less than half of the list is not believed.
    """
    remaining = {normal_form(sentence, class_name) for sentence in parse_descriptions(reply, class_name).sentences}
    kept = []
    for sentence in asked:
        words = normal_form(sentence, class_name)
        kept.append(words in remaining)
        remaining.discard(words)
    return kept if 2 * sum(kept) >= len(asked) else None


def _jaccard_at_least(one: frozenset[str], other: frozenset[str], similarity: float) -> bool:
    small, large = sorted((len(one), len(other)))
    if large == 0 or small / large < similarity:  # divided, not multiplied: 0.28 * 25 is above 7 in floating point
        return False
    both = len(one & other)
    return both / (len(one) + len(other) - both) >= similarity


def _lines(reply: str) -> list[str]:
    text = _END_OF_THINK.sub("", _THINK.sub(" ", reply))
    parts = (part for line in text.splitlines() for part in _NEXT_SENTENCE.split(line))
    lines = (_BULLET.sub("", part).strip(_QUOTES) for part in parts)
    return [line for line in lines if line and not line.startswith("```")]
