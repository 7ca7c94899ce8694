"""From what a model answered to a class: find the one class name that a reply means.

An answer that names no class, or several, is data, never an exception: it has a reason and counts as wrong.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

_THINK = re.compile(r"\A.*</think>|<think>.*\Z", re.DOTALL | re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_ARTICLES = frozenset(("a", "an", "the"))

Words = tuple[str, ...]


class ClassNameParser:
    """Knows the ways in which each class may be called: its name, the synonyms between its commas, the name without
    what stands in brackets. A way that two classes share means neither, unless it is the whole name of one."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._exact = {name: class_id for class_id, name in enumerate(class_names)}
        whole = [(_words(name), class_id) for name, class_id in self._exact.items()]
        shorter = []
        for name, class_id in self._exact.items():
            bare = re.sub(r"\(.*?\)", " ", name)
            shorter += [(_words(way), class_id) for way in (bare, *bare.split(","))]
        self._ways = _unambiguous(shorter) | _unambiguous(whole)
        self._plain = _unambiguous([(_singulars(way), class_id) for way, class_id in self._ways.items()])
        self._longest = max(map(len, self._ways), default=0)

    def parse(self, reply: str) -> tuple[int | None, str]:
        """Return (class id, how the name was found) or (None, why there is none)."""
        text = _THINK.sub("", reply).strip().strip("\"'`“”‘’*_.!? \n")
        if text in self._exact:
            return self._exact[text], "exact"
        words = _words(text)
        if not words:
            return None, "empty reply"
        if words in self._ways:
            return self._ways[words], "case or punctuation"
        if _singulars(words) in self._plain:
            return self._plain[_singulars(words)], "plural"
        found = self._contained(words)
        if len(found) == 1:
            return found.pop(), "contained"
        return None, "names several classes" if found else "names no class"

    def _contained(self, words: Words) -> set[int]:
        """Return the classes named within a reply; the longest name at a place counts ("T-shirt" is no "shirt")."""
        found, start = set(), 0
        while start < len(words):
            for length in range(min(self._longest, len(words) - start), 0, -1):
                part = words[start : start + length]
                class_id = self._ways.get(part, self._plain.get(_singulars(part)))
                if class_id is not None:
                    found.add(class_id)
                    start += length
                    break
            else:
                start += 1
        return found


def _unambiguous(ways: Sequence[tuple[Words, int]]) -> dict[Words, int]:
    """Return the ways that lead to one class."""
    classes: dict[Words, set[int]] = defaultdict(set)
    for way, class_id in ways:
        classes[way].add(class_id)
    return {way: ids.pop() for way, ids in classes.items() if way and len(ids) == 1}


def _words(text: str) -> Words:
    """Return the words of a text in lower case; "T-shirt" is two, an opening article none."""
    words = tuple(_WORD.findall(re.sub("['’]", "", text.casefold())))
    return words[1:] if len(words) > 1 and words[0] in _ARTICLES else words


def _singulars(words: Words) -> Words:
    """Return every word without what makes it a plural, such as "dress" for "dresses" and "box" for "boxes"."""
    return tuple(map(_singular, words))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and re.search(r"(?:s|x|z|ch|sh)es\Z", word):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
