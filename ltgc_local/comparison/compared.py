"""What a comparison asks of a method, which it does not know by name: words for its arms, its paper, its own tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ltgc_local.runs.directory import RunDirectory

if TYPE_CHECKING:
    from ltgc_local.comparison.aggregate import Row
    from ltgc_local.comparison.table import Table
    from ltgc_local.evaluation.intervals import Resampling


@dataclass(frozen=True)
class PaperRow:
    """One row of a paper's table; ``method`` is the key that ``paper_row`` gives, "" for one that is not here."""

    method: str
    title: str
    values: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (benchmark, group) -> percent


@dataclass(frozen=True)
class PaperTable:
    """One of a paper's tables; ``columns`` are (benchmark, group).

    Attributes:
        source: the paper and the models that its figures are of.
        benchmarks: a benchmark's name in recipes -> its name in the paper.
        shown_for: the rows of which one must be among the runs, for the table to be shown.
    """

    number: int
    title: str
    source: str
    benchmarks: Mapping[str, str]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[PaperRow, ...]
    shown_for: frozenset[str]


class MethodComparison:
    """What a method adds to a comparison; a method overrides what is its own.

    Attributes:
        name: the method's, which is also its own arm's.
        paper_tables: the figures that its paper reports.
    """

    name: str = ""
    paper_tables: tuple[PaperTable, ...] = ()

    def describe_arm(self, settings: Mapping[str, Any], arm: str) -> list[str]:
        """Say how an arm was trained, a phrase each."""
        return [arm.replace("_", " ")]

    def paper_row(self, settings: Mapping[str, Any], arm: str) -> str | None:
        """Return the key of the paper's row whose settings an arm has, or None."""
        return None

    def read_figures(self, run: RunDirectory) -> dict[str, Any]:
        """Return what the method's own tables need of a measured run."""
        return {}

    def tables(self, rows: Sequence[Row], resampling: Resampling) -> list[Table]:
        """Return the method's own tables, each where some run has its figures."""
        return []
