"""At most so many CLIP tokens: a description that has more is cut where a clause ends, or else a word."""

from __future__ import annotations

import re
from collections.abc import Callable

from ltgc_local.methods.ltgc.replies.template_1 import parse_sentence

_CLAUSE = re.compile(r"[,;:，、；،]\s|\s(?:and|while|as|in|on|at|against|under|near|with|beside|during)\s")
#: Words that a cut must not leave at the end.
_DANGLING = re.compile(r"(?:\s(?:an?|the|and|or|of|with|while|in|on|at|to|by|for|from|its|is|are|as|near|under))+\Z")
_BLANK = re.compile(r"\s")


def cut_to_tokens(sentence: str, class_name: str, max_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """Return a Template 1 sentence of at most ``max_tokens``: itself, or its longest beginning that fits; "" if none.

    It is cut before a clause, unless that would lose more than half of what fits; then before a word.
    """
    if count_tokens(sentence) <= max_tokens:
        return sentence
    word = _longest(sentence, class_name, max_tokens, count_tokens, _BLANK)
    clause = _longest(sentence, class_name, max_tokens, count_tokens, _CLAUSE)
    return clause if 2 * len(clause) > len(word) else word


def _longest(
    sentence: str, class_name: str, max_tokens: int, count_tokens: Callable[[str], int], breaks: re.Pattern[str]
) -> str:
    """Search the last break at which the sentence fits, by halving."""
    places = [found.start() for found in breaks.finditer(sentence, len(f"A photo of the class {class_name}") + 1)]
    low, high, best = 0, len(places), ""
    while low < high:
        middle = (low + high) // 2
        cut = parse_sentence(_DANGLING.sub("", sentence[: places[middle]]), class_name).sentence
        if count_tokens(cut) <= max_tokens:
            low, best = middle + 1, cut or best
        else:
            high = middle
    return best
