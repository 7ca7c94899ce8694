"""Clean a raw reply into plain lines: no reasoning, markup, control characters or emoji; wrapped lines joined."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ltgc_local.methods.ltgc.replies.template_1 import MAX_CHARACTERS, PHOTO_OF

_THINK = re.compile(r"<(think(?:ing)?|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
#: Some chat templates open <think> in the prompt, so the reply only closes it.
_END_OF_THINK = re.compile(r"\A.*</(?:think(?:ing)?|reasoning)>", re.DOTALL | re.IGNORECASE)
_SPECIAL_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|\[/?INST\]")
_TAG = re.compile(r"<(/?)(br|p|li|ul|ol|div|tr|td|b|i|em|strong|span)\s{0,4}/?>", re.IGNORECASE)
_INLINE = frozenset(("b", "i", "em", "strong", "span"))
_ESCAPED_LINE_END = re.compile(r"(?:\\r)?\\n(?![a-z])")  # in JSON that is read as text
_LINE_END = re.compile(r"\r\n?|[\n\v\f\x1c-\x1e\x85\u2028\u2029]")
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*+\n)++")
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0e\ufe0f\u20e3]+")
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffd\U000e0000-\U000e0fff]")
_BULLET = re.compile(r"^\s*(?:[-*+•·–—>#]+|\(?\d{1,4}[.):、]|\(?[a-zA-Z][.)](?=\s))\s*")
_OPENING_QUOTES = "\"'`“„«「『‘*"
_WORD = re.compile(r"[^\W_]")
_PICTURE = re.compile("photo|picture|image", re.IGNORECASE)  # in every opening
_PHOTO_OF = re.compile(PHOTO_OF, re.IGNORECASE)
_ENDED = re.compile(r"[.!?…。！？｡．।॥؟۔][\"'`“”‘’«»*_)\]]*\Z")
#: What may precede a description that begins within a line: an end, and its own number and quotes.
_BEFORE_NEXT = re.compile(r"[.!?…。！？｡．।॥؟۔:;,][\"'`“”‘’«»*_)\]]*[\s\"“*'\-•]*(?:\(?\d{1,4}[.):])?[\s\"“*']*\Z")


def clean(reply: str) -> str:
    """Return a reply's text without reasoning, special tokens, tags and unprintable characters."""
    text = reply
    if "<" in text or "[/" in text:
        text = _END_OF_THINK.sub("", _THINK.sub(" ", text))
        text = _TAG.sub(lambda tag: "" if tag[2].lower() in _INLINE else "\n", _SPECIAL_TOKEN.sub("\n", text))
    text = _LINE_END.sub("\n", _ESCAPED_LINE_END.sub("\n", text))
    if not text.isascii():
        text = _EMOJI.sub("", _INVISIBLE.sub("", text))
    return "\n".join(map(_printable, _BLANK_LINES.sub("\n\n", text).split("\n")))


def split_lines(text: str, class_opening: re.Pattern[str]) -> list[str]:
    """Return the lines of a cleaned text, at most one description each, without bullets and numbers.

    Quotation marks stay: they show where a description in the middle of chatter ends.
    """
    parts = (part for line in _unwrapped(text.split("\n")) for part in _split_at_openings(line, class_opening))
    lines = (_BULLET.sub("", part).strip(" \t[],") for part in parts)
    return [line for line in lines if _WORD.search(line) and not line.startswith("```")]


def _printable(line: str) -> str:
    if not line.isprintable():
        line = "".join(character if character.isprintable() else " " for character in line)
    return " ".join(line.split())


def _unwrapped(lines: list[str]) -> Iterator[str]:
    """Join a line that continues in lower case to the unfinished description above it."""
    waiting = ""
    for line in lines:
        continues = line[:1].islower() and not _BULLET.match(line) and not _PHOTO_OF.match(line)
        if waiting and continues and len(waiting) < 2 * MAX_CHARACTERS:
            waiting = f"{waiting} {line}"
        else:
            yield waiting
            waiting = line
        if not _PHOTO_OF.search(waiting) or _ENDED.search(waiting):
            yield waiting
            waiting = ""
    yield waiting


def _split_at_openings(line: str, class_opening: re.Pattern[str]) -> Iterator[str]:
    """Split a line before each description: anywhere for this class, after a full stop for another one."""
    if not _PICTURE.search(line):
        yield line
        return
    found_at = {found.start() for found in class_opening.finditer(line) if "class" in found[0]}
    for found in _PHOTO_OF.finditer(line):
        if _BEFORE_NEXT.search(line, max(0, found.start() - 16), found.start()):
            found_at.add(found.start())
    starts = sorted({len(line[:start].rstrip(_OPENING_QUOTES)) for start in found_at} - {0})
    first = min(starts, default=len(line))
    if starts and not _PHOTO_OF.search(line, 0, first):
        starts = starts[1:]  # the text before the first description is its label or chatter
    for start, end in zip([0, *starts], [*starts, len(line)], strict=True):
        yield line[start:end]
