"""Asking a process to stop: what it has in hand is given back or saved, and the same command resumes.

SIGTERM (and SIGHUP) stops at once, by an exception in the main thread; a training first finishes its step and writes a
checkpoint. SIGUSR1, which clusters send some minutes before a job's time is over, also lets a chunk be finished.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ltgc_local.errors import TryAgain

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

#: Exit codes of workers that were asked to stop: the last are those of workers that were not listening yet.
CODES = (TryAgain.exit_code, -signal.SIGUSR1, -signal.SIGTERM)

#: Signals that follow the first one sooner are the same request: a cluster signals all processes of a job, and so a
#: worker hears of it from its launcher too.
SAME_REQUEST_S = 5.0

_asked = False
_number: int | None = None  # of the first signal that asked
_since = 0.0  # when it came, or the first that was no SIGUSR1
_polls = False  # the code that runs looks at ``is_asked`` itself, within seconds


class Stopped(BaseException):
    """The process was asked to stop. Not an ``Exception``, so that nothing on the way takes it for a failure."""

    exit_code = TryAgain.exit_code


def listen() -> None:
    """Heed the signals, in the main thread."""
    global _asked, _polls, _number, _since
    _asked, _polls, _number, _since = False, False, None, 0.0
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup has a process ignore SIGHUP
            signal.signal(number, _heed)


def is_asked() -> bool:
    """Return whether this process was asked to stop."""
    return _asked


def first_signal() -> int | None:
    """Return the signal that first asked this process to stop."""
    return _number


def check() -> None:
    """Stop here if that was asked for.

    Raises:
        Stopped: it was.
    """
    if _asked:
        raise Stopped


@contextmanager
def polling() -> Iterator[None]:
    """Let the code in this block stop by itself, by looking at ``is_asked``; a later SIGTERM stops it."""
    global _polls
    before, _polls = _polls, True
    try:
        yield
    finally:
        _polls = before


def _heed(number: int, frame: object) -> None:
    global _asked, _number, _since
    _asked, _number = True, _number or number
    if number == signal.SIGUSR1:
        return
    is_first = not _since
    _since = _since or time.monotonic()
    # The same request again must not interrupt what cleans up after it.
    if (is_first and not _polls) or time.monotonic() - _since > SAME_REQUEST_S:
        raise Stopped
