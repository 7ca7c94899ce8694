"""The repetition check: a deterministic one that scales to thousands of sentences, and Prompt 3's reply."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.template_1 import CUT_OFF

#: A word, or one character of a script that has no spaces between words.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_SMALL_WORDS = frozenset(
    ("a", "an", "the", "of", "with", "in", "on", "at", "and", "or", "to", "its", "is", "are", "by", "for", "from")
)


def normal_form(sentence: str, class_name: str) -> frozenset[str]:
    """Return the content words of a description, without opening, class name and small words."""
    body = sentence.removeprefix(f"A photo of the class {class_name}")
    words = map(str.casefold, _WORD.findall(unicodedata.normalize("NFKC", body)))
    return frozenset(words) - _SMALL_WORDS - {word.casefold() for word in _WORD.findall(class_name)}


class RepetitionCheck:
    """Remembers a class's descriptions and finds repetitions (ours, in addition to Prompt 3).

    Two descriptions repeat each other if the Jaccard similarity of their normal forms is at least ``similarity``. The
    check is exact without comparing all pairs: two sets of words that are so similar have similar sizes and share one
    of their first few words in any fixed order (prefix filtering, Chaudhuri et al. 2006).
    """

    def __init__(self, class_name: str, similarity: float) -> None:
        self._class_name = class_name
        self._similarity = similarity
        self._same: dict[frozenset[str], str] = {}
        self._seen: dict[str, int] = {}  # word -> its rank by first appearance, a fixed order
        self._index: defaultdict[tuple[str, int], list[frozenset[str]]] = defaultdict(list)

    def repeated(self, sentence: str) -> str | None:
        """Return the known sentence that this one repeats, or None."""
        words = normal_form(sentence, self._class_name)
        if words in self._same:
            return self._same[words]
        if self._similarity >= 1:
            return None
        size = len(words)
        for word in self._prefix(words):
            for other_size in range(self._smallest(size), int(size / self._similarity) + 2):
                for other in self._index.get((word, other_size), ()):
                    if jaccard(words, other) >= self._similarity:
                        return self._same[other]
        return None

    def add(self, sentence: str) -> None:
        words = normal_form(sentence, self._class_name)
        if words in self._same:
            return
        self._same[words] = sentence
        for word in sorted(words):
            self._seen.setdefault(word, len(self._seen))
        for word in self._prefix(words):
            self._index[word, len(words)].append(words)

    def _prefix(self, words: frozenset[str]) -> Iterator[str]:
        """Yield the first words, one of which similar sentences share; words seen last come first, as they are rare."""
        ordered = sorted(words, key=lambda word: (-self._seen.get(word, math.inf), word))
        yield from ordered[: len(words) - self._smallest(len(words)) + 1]

    def _smallest(self, size: int) -> int:
        """Return the size of the smallest set, and least number of common words, with which ``size`` words repeat."""
        smallest = math.ceil(size * self._similarity)
        # In floating point 0.28 * 25 is above 7, although 7 / 25 is 0.28.
        return smallest - 1 if smallest and (smallest - 1) / size >= self._similarity else smallest


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Return |one & other| / |one | other|; 1 for two empty sets."""
    both = len(one & other)
    either = len(one) + len(other) - both
    return both / either if either else 1.0


def kept_by_repetition_check(
    reply: str, class_name: str, asked: Sequence[str], confirm: float = 0.0
) -> list[bool] | None:
    """Return which of the ``asked`` sentences a reply to Prompt 3 keeps; None if it keeps less than half of them.

    The first of two equal sentences is kept. A reply that was cut off omits nothing after the last sentence it keeps.

    Args:
        confirm: a sentence that the reply omits is kept anyway, unless its Jaccard similarity with a kept one is at
            least this; 0 trusts the reply.
    """
    forms = [normal_form(sentence, class_name) for sentence in asked]
    parsed = parse_descriptions(reply, class_name)
    remaining = {normal_form(sentence, class_name) for sentence in parsed.sentences}
    kept = []
    for words in forms:
        kept.append(words in remaining)
        remaining.discard(words)
    if any(reason == CUT_OFF for _, reason in parsed.dropped) and any(kept):
        num_judged = len(kept) - kept[::-1].index(True)
        kept[num_judged:] = [True] * (len(kept) - num_judged)
    if 2 * sum(kept) < len(asked):
        return None
    for i, words in enumerate(forms):
        if not kept[i]:
            kept[i] = all(jaccard(words, forms[j]) < confirm for j, is_kept in enumerate(kept) if is_kept)
    return kept
