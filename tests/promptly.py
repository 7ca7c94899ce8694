"""Time and permissions, for tests of what must neither hang nor be read."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534
BUSY_S = 10  # for what takes milliseconds, on a machine that has other things to do


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where what is done takes longer: opening a FIFO waits for ever, and reading a device never ends."""

    def stop(*_: object) -> None:
        raise AssertionError(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """Give a folder in which permissions count: root, who runs tests in containers, is nobody for the while."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        folder.chmod(0o777)
        os.seteuid(NOBODY)
    mine = folder / "mine"
    mine.mkdir()
    try:
        yield mine
    finally:
        if is_root:
            os.seteuid(0)
        mine.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
