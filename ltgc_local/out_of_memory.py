"""Tell a lack of memory from damage: libraries report it as errors of every kind."""

from __future__ import annotations

import errno
import re

#: What torch, Arrow, safetensors, Pillow and numpy say. torch's own error for GPUs is a RuntimeError, too.
_WORDS = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|unable to allocate|failed to allocate"
    r"|not enough memory|failed to map segment|memory allocation of \d+ bytes failed|_STATUS_ALLOC_FAILED|bad_alloc"
    r"|malloc of size",
    re.IGNORECASE,
)


def is_out_of_memory(problem: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, says that memory could not be allocated."""
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:
        seen.add(id(problem))
        if isinstance(problem, MemoryError) or (isinstance(problem, OSError) and problem.errno == errno.ENOMEM):
            return True
        if isinstance(problem, Exception) and _WORDS.search(str(problem)):
            return True
        problem = problem.__cause__ or problem.__context__
    return False
