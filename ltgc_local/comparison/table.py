"""One table of a comparison: a title, a heading, and rows of texts and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ltgc_local.comparison.aggregate import Cell

TableRow = tuple[str | Cell, ...]


@dataclass(frozen=True)
class Table:
    """A title, a sentence on how to read it, a heading and rows."""

    kind: str  # accuracy, change, two_by_two, networks, images, paper
    title: str
    note: str
    heading: tuple[str, ...]
    rows: tuple[TableRow, ...]


def join_seeds(seeds: Sequence[int]) -> str:
    """Write the seeds of a row; "any" where the seed has no influence."""
    return ", ".join(map(str, seeds)) or "any"
