"""A step's progress: a bar on a terminal, and always a line of metrics every few seconds.

Without a terminal, the launcher uses these lines to report progress once a minute.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from tqdm import tqdm

LINE_S = 5.0  # between lines of metrics
WINDOW_S = 60.0  # over which the rate is measured


def is_terminal() -> bool:
    """Return whether standard error is a terminal; it may have been closed."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def peak_mib() -> int:
    """Return this process's peak memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Progress(AbstractContextManager["Progress"]):
    """Counts finished items; a context manager."""

    def __init__(
        self,
        label: str,
        write: Callable[[Mapping[str, float | int]], None] = lambda values: None,
        *,
        with_bar: bool = True,
    ) -> None:
        """Begin to count.

        Args:
            write: called with items, total, rate, seconds and memory at the beginning, every few seconds and at the
                end.
            with_bar: show a bar if standard error is a terminal.
        """
        self._bar = tqdm(total=0, desc=label, disable=not (with_bar and is_terminal()), leave=False, smoothing=0.1)
        self._write = write
        self._start = self._written = time.monotonic()
        self._done = self._total = self._in_chunk = self._written_in_chunk = 0
        self._points: deque[tuple[float, int]] = deque()  # (time, items) of the latest lines

    @property
    def done(self) -> int:
        """The number of finished items, including those of earlier processes."""
        return self._done

    def expect(self, items: int) -> None:
        """Set the number of items, once it is known."""
        self._bar.reset(total=items)
        self._done, self._total = 0, items
        self._points.clear()
        self._write_line()

    def advance(self, items: int = 1) -> None:
        self._bar.update(items)
        self._done += items
        self._in_chunk += items
        if time.monotonic() - self._written >= LINE_S:
            self._write_line()

    def skip(self, items: int) -> None:
        """Count items that an earlier process finished; they do not count for the rate."""
        self._bar.update(items)
        self._done += items
        self._points.clear()
        self._write_line()

    def end_chunk(self) -> None:
        """Begin the next chunk: from now on this one's items are known to all, so no line may go on counting them."""
        self._in_chunk = 0
        if self._written_in_chunk:
            self._write_line()

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text)

    def _write_line(self) -> None:
        now = self._written = time.monotonic()
        self._written_in_chunk = self._in_chunk
        if self._done or not self._total:  # a model is being loaded until the first item
            self._points.append((now, self._done))
        while len(self._points) > 2 and self._points[1][0] < now - WINDOW_S:
            self._points.popleft()
        since, before = self._points[0] if self._points else (now, 0)
        rate = (self._done - before) / (now - since) if now > since else 0.0
        self._write(
            {
                "items": self._done,
                "in_chunk": self._in_chunk,
                "total": self._total,
                "items_per_second": float(f"{rate:.4g}"),
                "seconds": round(now - self._start, 1),
                "peak_mib": peak_mib(),
            }
        )

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        self._write_line()
