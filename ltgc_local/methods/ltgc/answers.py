"""Find the one class that a model's answer names.

An answer that names no class, or several, is never an exception: it is recorded with a reason and counts as wrong.
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
    """Knows what each class may be called: its name, its comma-separated synonyms, and either without brackets.

    A form that two classes share means neither, unless it is the whole name of one of them.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._exact = {name: class_id for class_id, name in enumerate(class_names)}
        whole = [(_words(name), class_id) for name, class_id in self._exact.items()]
        shorter = []
        for name, class_id in self._exact.items():
            bare = re.sub(r"\(.*?\)", " ", name)
            shorter += [(_words(form), class_id) for form in (bare, *bare.split(","))]
        self._forms = _unambiguous(shorter) | _unambiguous(whole)
        self._plain = _unambiguous([(_singulars(form), class_id) for form, class_id in self._forms.items()])
        self._longest = max(map(len, self._forms), default=0)

    def parse(self, reply: str) -> tuple[int | None, str]:
        """Return (class id, how the name was found) or (None, why there is none)."""
        text = _THINK.sub("", reply).strip().strip("\"'`“”‘’*_.!? \n")
        if text in self._exact:
            return self._exact[text], "exact"
        words = _words(text)
        if not words:
            return None, "empty reply"
        if words in self._forms:
            return self._forms[words], "case or punctuation"
        if _singulars(words) in self._plain:
            return self._plain[_singulars(words)], "plural"
        found = self._contained(words)
        if len(found) == 1:
            return found.pop(), "contained"
        return None, "names several classes" if found else "names no class"

    def _contained(self, words: Words) -> set[int]:
        """Return the classes named within a reply; the longest name at each place counts ("T-shirt", not "shirt")."""
        found, start = set(), 0
        while start < len(words):
            for length in range(min(self._longest, len(words) - start), 0, -1):
                part = words[start : start + length]
                class_id = self._forms.get(part, self._plain.get(_singulars(part)))
                if class_id is not None:
                    found.add(class_id)
                    start += length
                    break
            else:
                start += 1
        return found


def _unambiguous(forms: Sequence[tuple[Words, int]]) -> dict[Words, int]:
    """Return the forms that belong to a single class."""
    classes: dict[Words, set[int]] = defaultdict(set)
    for form, class_id in forms:
        classes[form].add(class_id)
    return {form: ids.pop() for form, ids in classes.items() if form and len(ids) == 1}


def _words(text: str) -> Words:
    """Return the words of a text in lower case, without an opening article; "T-shirt" is two words."""
    words = tuple(_WORD.findall(re.sub("['’]", "", text.casefold())))
    return words[1:] if len(words) > 1 and words[0] in _ARTICLES else words


def _singulars(words: Words) -> Words:
    """Return each word without its plural ending: "dress" for "dresses", "box" for "boxes"."""
    return tuple(map(_singular, words))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and re.search(r"(?:s|x|z|ch|sh)es\Z", word):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
