"""Parsing a whole reply, whether JSON, tables or free text, into sentences in Template 1."""

from __future__ import annotations

from dataclasses import dataclass

from ltgc_local.methods.ltgc.replies.cleaning import clean, split_lines
from ltgc_local.methods.ltgc.replies.structured import Item, take_objects, take_tables
from ltgc_local.methods.ltgc.replies.template_1 import CUT_OFF, Reading, opening, parse_sentence

MAX_REPLY_CHARACTERS = 100_000


@dataclass(frozen=True)
class ParsedReply:
    """A reply's sentences in the template, in order, and the lines that are not in it, each with a reason."""

    sentences: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]  # (line, reason)

    @property
    def reason(self) -> str:
        """Why a reply without sentences has none."""
        return self.dropped[0][1] if self.dropped else "empty reply"


def parse_descriptions(reply: str, class_name: str) -> ParsedReply:
    """Read the Template 1 sentences of a reply about ``class_name``.

    They may be JSON objects, rows of a table, or free text, on separate lines or not. If every sentence except the last
    has a full stop, the last was cut off by the limit on replies and is dropped.
    """
    objects, text = take_objects(clean(reply[:MAX_REPLY_CHARACTERS]), class_name)
    rows, text = take_tables(text, class_name)
    lines = split_lines(text, opening(class_name))
    if objects or rows:  # the rest is brackets, commas and chatter
        lines = [line for line in lines if opening(class_name).search(line)]
    free = [(line, parse_sentence(line, class_name)) for line in lines]
    items = objects + rows + _without_cut_off(free)
    sentences = tuple(reading.sentence for _, reading in items if reading.sentence)
    return ParsedReply(sentences, tuple((line, reading.reason) for line, reading in items if not reading.sentence))


def _without_cut_off(items: list[Item]) -> list[Item]:
    ended = [reading.is_ended for _, reading in items if reading.sentence]
    if items and len(ended) > 1 and all(ended[:-1]) and not items[-1][1].is_ended:
        return [*items[:-1], (items[-1][0], Reading("", CUT_OFF))]
    return items
