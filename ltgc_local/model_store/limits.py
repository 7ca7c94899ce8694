"""Limits for running a piece of somebody else's program: seconds of the main thread, and memory."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

AGAIN_S = 0.5  # the alarm repeats: an exception that is raised inside a destructor is lost


class TooSlowError(Exception):
    """The block took too long."""


class _AlarmError(BaseException):
    """Ends the block; not an Exception, because libraries catch those and continue."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise a TooSlowError in the block after this time; in threads other than the main one nothing is limited."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_running = True

    def ring(number: int, frame: FrameType | None) -> None:
        if is_running:
            raise _AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
        yield
    except _AlarmError:
        raise TooSlowError(f"took longer than {seconds:g} s") from None
    finally:
        is_running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def memory_limit(more_bytes: int) -> Iterator[bool]:
    """Let this process's address space grow by at most this much within the block; then it gets a MemoryError.

    Yields:
        Whether this limit applies: nothing is changed if the process already has a narrower one, or if the system does
        not say how large the process is.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except OSError:
        yield False
        return
    wanted = pages * resource.getpagesize() + more_bytes
    if soft != resource.RLIM_INFINITY and soft <= wanted:
        yield False
        return
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield True
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
