"""Bounds on what a piece of somebody else's program may take: seconds of the main thread, and memory."""

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
    """The block took longer than it may."""


class _AlarmError(BaseException):
    """Ends the block; no Exception, which libraries catch and go on."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End the block after so many seconds; in another thread than the main one nothing is limited.

    Raises:
        TooSlowError: it took longer.
    """
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
    """Let this process's address space grow by so much within the block; what asks for more gets a MemoryError.

    Yields:
        Whether the limit is this one: where the process has a narrower one already, or the system does not say how
        large it is, nothing is changed.
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
