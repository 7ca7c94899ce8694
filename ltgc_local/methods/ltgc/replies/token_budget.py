"""Cut a description to a limit of CLIP tokens, at the end of a clause or else of a word."""

from __future__ import annotations

import re
from collections.abc import Callable

from ltgc_local.methods.ltgc.replies.template_1 import parse_sentence

_CLAUSE = re.compile(r"[,;:，、；،]\s|\s(?:and|while|as|in|on|at|against|under|near|with|beside|during)\s")
#: Words that a cut must not leave dangling at the end.
_DANGLING = re.compile(r"(?:\s(?:an?|the|and|or|of|with|while|in|on|at|to|by|for|from|its|is|are|as|near|under))+\Z")
_BLANK = re.compile(r"\s")


def cut_to_tokens(sentence: str, class_name: str, max_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """Return a Template 1 sentence, or its longest beginning, of at most ``max_tokens``; "" if none fits.

    The cut is before a clause, unless that would lose more than half of the text that fits; then it is before a word.
    """
    if count_tokens(sentence) <= max_tokens:
        return sentence
    word = _longest(sentence, class_name, max_tokens, count_tokens, _BLANK)
    clause = _longest(sentence, class_name, max_tokens, count_tokens, _CLAUSE)
    return clause if 2 * len(clause) > len(word) else word


def _longest(
    sentence: str, class_name: str, max_tokens: int, count_tokens: Callable[[str], int], breaks: re.Pattern[str]
) -> str:
    """Find the last break before which the sentence fits, by binary search."""
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
