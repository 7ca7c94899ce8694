"""One sentence in Template 1: parsed from a model's line, or rendered from features and a scene."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

MAX_CHARACTERS = 600  # per description; anything longer is chatter, not a caption
NO_OPENING = 'does not begin with "A photo of the class [y]"'
CUT_OFF = "is cut off"
#: The opening, whatever the image shows. Vision models also call it an image or a picture.
PHOTO_OF = r"\b(?:an?|another|one)\s+(?:photo|photograph|picture|image)\s+of\b"
_QUOTES = "\"'`“”‘’«»„‹›「」『』《》*_\\"
_CLOSES = {"”": "“", "»": "«"}
_EDGES = _QUOTES + " \t[]|,;:，、；：،؛-–—…。！？｡．।॥؟۔.!?"
#: A sentence ends at a full stop before a space, and at other scripts' full stops even without one.
_END = re.compile(r"(?<![.!?…])[.!?…]++(?=[\"'`“”‘’«»*_)\]\\]*(?:\s|\Z))|[。！？｡．।॥؟۔]+")
_ABBREVIATION = re.compile(r"(?<!\w)(?:[A-Z]|St|Dr|Mr|Mrs|Ms|Mt|No|Jr|Sr|vs|cf|ca|approx|e\.g|i\.e)\Z")
_OPTIONAL = re.compile(r"\s+(\([^()]*\))")  # "kite (bird of prey)"
_EITHER = re.compile(r"\s+/\s+(?![^(]*\))")  # "baluster / handrail"
_NEXT_NUMBER = re.compile(r"\s\(?\d{1,3}[.):]\Z")
_EMPHASIS = re.compile(r"[*`]|__")
_WITHOUT_WITH = re.compile(r"(?:an?|the|its)\s", re.IGNORECASE)  # "A photo of the class bag, a red strap"
_PREPOSITION = re.compile(
    r"(?:in|on|at|against|under|beneath|beside|near|by|with|within|among|amid|amidst|inside|outside|over|above|"
    r"behind|before|between|along|around|during|through|from|of|next to|surrounded by|as)\b",
    re.IGNORECASE,
)
#: Nothing but the template's own words, which weak models repeat.
_FILLER = re.compile(
    r"(?:\W|_|\b(?:an?|the|and|or|of|with|in|on|its|distinctive|unique|particular|specific|other|another|possible|"
    r"features?|scenes?|\d+)\b)*",
    re.IGNORECASE,
)
_QUOTED = {'"': '"', "“": "”", "„": "“”", "«": "»", "「": "」", "『": "』", "'": "'", "‘": "’"}


@dataclass(frozen=True)
class Reading:
    """A line's sentence in Template 1, or "" and the reason why it has none."""

    sentence: str
    reason: str
    is_ended: bool = True  # by a full stop, so it was not cut off


def parse_sentence(line: str, class_name: str) -> Reading:
    """Rewrite the first description of ``class_name`` in a line as "A photo of the class [y] ….".

    The name may be in any case, with or without an article, singular or plural, and shortened as ``_name_pattern``
    says; the result has ``class_name``.
    """
    found = opening(class_name).search(line)
    if found is None:
        return Reading("", NO_OPENING)
    rest = " ".join(_within_quotes(line, found).split())
    if len(rest) > 4 * MAX_CHARACTERS:
        return Reading("", f"longer than {MAX_CHARACTERS} characters")
    end = _first_end(rest)
    body = _bare(rest[:end])
    if _FILLER.fullmatch(body):
        return Reading("", "states no feature and no scene")
    if any(mark in body for mark in "{}[]<>"):
        return Reading("", "keeps the template's brackets")
    if len(body) > MAX_CHARACTERS:
        return Reading("", f"longer than {MAX_CHARACTERS} characters")
    return Reading(f"A photo of the class {class_name} {body}.", "", end < len(rest))


def render(class_name: str, features: Sequence[str], scene: str) -> str:
    """Render Template 1 from the features and the scene of structured output."""
    parts = [part for part in (_END.sub(",", feature).strip(_EDGES) for feature in features) if part]
    parts = [_lower(part[5:] if part.lower().startswith("with ") else part) for part in parts]
    place = _lower(_END.sub(",", scene).strip(_EDGES))
    if place and not _PREPOSITION.match(place):
        place = f"in {place}"
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
    body = " ".join(words for words in (f"with {listed}" if listed else "", place) if words)
    return f"A photo of the class {class_name} {body}."


def _lower(text: str) -> str:
    """Put the first letter in lower case, unless the first word is an abbreviation."""
    return text[:1].lower() + text[1:] if text[1:2] in " " or text[1:2].islower() else text


def is_scene(text: str) -> bool:
    """Return whether a text begins like a scene, with a preposition."""
    return _PREPOSITION.match(text) is not None


@lru_cache(maxsize=1024)
def opening(class_name: str) -> re.Pattern[str]:
    """Return the pattern of "A photo of the class [y]" as models write it."""
    return re.compile(
        rf"(?:{PHOTO_OF}|(?:\A|(?<=[:\n]))\W{{0,8}}(?:photo|photograph|picture|image)\s+of\b)\s*"
        rf"(?:(?:the|an?|this)\s+class(?:es)?\b(?:\s+of\b)?|class\b|an?\b|the\b|some\b)?[\s:{re.escape(_QUOTES)}\[(<]*"
        rf"{_name_pattern(class_name)}(?!\w|[-‐‑'’]\w)[{re.escape(_QUOTES)}\])>]*",
        re.IGNORECASE,
    )


def _name_pattern(class_name: str) -> str:
    """Match a class's name, whole or shortened as models do.

    They write "kite" for "kite (bird of prey)", and "baluster" or "baluster or handrail" for "baluster / handrail".
    The prompt names the class, so a short form cannot mean another one that shares it.
    """
    names = _EITHER.split(class_name)
    names = names if all(map(str.strip, names)) else [class_name]
    either = "|".join(map(_one_name_pattern, sorted(names, key=len, reverse=True)))
    return rf"(?:{either})(?:\s*(?:/|\bor\b|\band\b)\s*(?:{either}))*" if len(names) > 1 else either


def _one_name_pattern(name: str) -> str:
    outside, *parts = _OPTIONAL.split(name)
    if not outside.strip():
        return _words_pattern(name)
    pattern = _words_pattern(outside)
    for inside, more in zip(parts[::2], parts[1::2], strict=True):
        pattern += rf"(?:[\s_{re.escape(_QUOTES)}]*{_words_pattern(inside)})?"
        pattern += rf"[\s_]+{_words_pattern(more)}" if more.strip() else ""
    return pattern


def _words_pattern(words: str) -> str:
    """Match words, the last singular or plural, however their spaces, hyphens and apostrophes are written."""
    *first, last = words.split() or [""]
    forms = sorted({last, *_other_numbers(last)}, key=len, reverse=True)
    return r"[\s_]+".join([*map(_word_pattern, first), f"(?:{'|'.join(map(_word_pattern, forms))})"])


def _word_pattern(word: str) -> str:
    escaped = re.escape(word).replace("_", r"[\s_]")
    return re.sub(r"\\-|[‐‑]", "[-‐‑]", re.sub("['’]", "['’]", escaped))


def _other_numbers(word: str) -> list[str]:
    """Return possible plurals and singulars of an English noun."""
    if not (word.isascii() and word[-2:].isalpha() and len(word) > 2):
        return []
    lower = word.lower()
    forms = [word + "s", word + "es"]
    if lower.endswith("y"):
        forms.append(word[:-1] + "ies")
    if lower.endswith(("f", "fe")):
        forms.append(word.rstrip("eE")[:-1] + "ves")
    if lower.endswith("ies"):
        forms.append(word[:-3] + "y")
    if lower.endswith("es"):
        forms.append(word[:-2])
    if lower.endswith("s") and not lower.endswith("ss"):
        forms.append(word[:-1])
    return [form for form in forms if len(form) > 2]


def _within_quotes(line: str, found: re.Match[str]) -> str:
    """Return the text after the opening, up to the mark that closes a quotation begun before it, if any."""
    closing = _QUOTED.get(line[: found.start()].rstrip()[-1:], "")
    depth = 0
    for i in range(found.end(), len(line) if closing else 0):
        if line[i] not in closing or (line[i] in "'’" and line[i + 1 : i + 2].isalnum()):
            continue
        if line[i - 1].isspace() and line[i] in "\"'":
            depth += 1  # a quotation within the description
        elif depth:
            depth -= 1
        else:
            return line[found.end() : i]
    return line[found.end() :]


def _first_end(text: str) -> int:
    for mark in _END.finditer(text):
        if not _ABBREVIATION.search(text, max(0, mark.start() - 8), mark.start()):
            return mark.start()
    return len(text)


def _bare(body: str) -> str:
    """Strip emphasis, quotes and punctuation at both ends, and the number of the next item."""
    while True:
        bare = " ".join(_EMPHASIS.sub("", body).split())
        closing = bare[-1:]
        bare = _NEXT_NUMBER.sub("", bare.strip(_EDGES))
        if bare.count("(") < bare.count(")"):
            bare = bare.removesuffix(")")
        opens = _CLOSES.get(closing, "")
        if bare.count(closing) % 2 if closing == '"' else opens and bare.count(closing) < bare.count(opens):
            bare += closing  # it closes a quotation within the description
        if bare.count('"') % 2:
            bare = bare.replace('"', "")
        if _WITHOUT_WITH.match(bare):
            bare = f"with {bare}"
        if bare == body:
            return body
        body = bare
