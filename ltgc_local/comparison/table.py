"""A table of a comparison, and the figures in its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ltgc_local.evaluation.intervals import Interval


@dataclass(frozen=True)
class Cell:
    """A figure, its interval, and its standard deviation over seeds; None where there is none."""

    value: float | None
    interval: Interval | None = None
    sd: float | None = None
    is_difference: bool = False


TableRow = tuple[str | Cell, ...]


@dataclass(frozen=True)
class Table:
    """A title, a note on how to read it, a heading and rows."""

    kind: str  # accuracy, change, rivals, two_by_two, networks, images, paper
    title: str
    note: str
    heading: tuple[str, ...]
    rows: tuple[TableRow, ...]


def join_seeds(seeds: Sequence[int], train_seeds: Sequence[int] = ()) -> str:
    """Write a row's seeds; "any" if the seed has no influence.

    Args:
        train_seeds: of its trainings, if they have seeds of their own.
    """
    parts = {"generation": seeds, "training": train_seeds} if train_seeds else {"": seeds}
    return "; ".join(f"{word} {', '.join(map(str, each))}".strip() for word, each in parts.items() if each) or "any"
