"""Show control characters instead of sending them to a terminal or a page: other people's text may contain any."""

from __future__ import annotations

import re

#: C0 and C1 controls except tab and line feed, DEL, marks that reorder text (Trojan Source, CVE-2021-42574), and lone
#: surrogates, which stand for bytes that are not UTF-8 and cannot be encoded.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return the text with unsafe characters written as Python writes them: ESC as ``\x1b``."""
    return _UNSAFE.sub(lambda found: repr(found[0])[1:-1], text)
