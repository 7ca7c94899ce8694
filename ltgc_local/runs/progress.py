"""Progress of a step on standard error: a bar on a terminal, nothing elsewhere (the caller logs a line a step)."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm


def is_terminal() -> bool:
    """Return whether standard error is a terminal; it may have been closed, and then there is none."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


class Progress:
    """A bar with items, rate and remaining time; a context manager."""

    def __init__(self, label: str) -> None:
        self._bar = tqdm(total=0, desc=label, disable=not is_terminal(), leave=False, smoothing=0.1)

    def expect(self, items: int) -> None:
        """Set how many items there are, once that is known."""
        self._bar.reset(total=items)

    def advance(self, items: int = 1) -> None:
        self._bar.update(items)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
