"""Tell a lack of memory from damage: libraries report it with all kinds of errors."""

from __future__ import annotations

import errno
import re
from textwrap import shorten

#: The words of torch, Arrow, safetensors, Pillow and numpy; torch's own error for GPUs is a RuntimeError too. Threads
#: need memory for their stacks.
_WORDS = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|unable to allocate|failed to allocate"
    r"|not enough memory|memory allocation of \d+ bytes failed|_STATUS_ALLOC_FAILED|bad_alloc|malloc of size"
    r"|failed to map segment|can't start new thread|failed to launch worker thread|error return without exception set",
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


def describe_lack(problem: BaseException) -> str:
    """Return words about a lack of memory for a user, for the middle of a sentence."""
    words = shorten(str(problem) or type(problem).__name__, 300, placeholder=" …")
    return f"out of memory ({words}): end what else uses it, or raise the limit (ulimit -v, or the job's)"
