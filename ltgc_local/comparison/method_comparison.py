"""What a comparison asks of a method: words for its arms, its paper's figures, its own tables. It names no method."""

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
    """One row of a paper's table; ``method`` is the key that ``paper_row`` returns, "" if no run can match it."""

    method: str
    title: str
    values: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (benchmark, group) -> percent


@dataclass(frozen=True)
class PaperTable:
    """One of a paper's tables; ``columns`` are (benchmark, group).

    Attributes:
        source: the paper and the models behind its figures.
        benchmarks: a benchmark's name in recipes -> its name in the paper.
        shown_for: keys of rows; the table is shown if a run matches one of them.
    """

    number: int
    title: str
    source: str
    benchmarks: Mapping[str, str]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[PaperRow, ...]
    shown_for: frozenset[str]


class MethodComparison:
    """What a method adds to a comparison; a method overrides what it does differently.

    Attributes:
        name: the method's name, which is also the name of its arm.
        paper_tables: the figures that its paper reports.
    """

    name: str = ""
    paper_tables: tuple[PaperTable, ...] = ()

    def describe_arm(self, settings: Mapping[str, Any], arm: str) -> list[str]:
        """Return phrases that say how an arm was trained."""
        return [arm.replace("_", " ")]

    def validated_by(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return arm -> the step that measured it on validation images, for the arms of a recipe's flat settings.

        A training measures every epoch; another step stores ``weights``, with what they reach.
        """
        return {"control": "train/control", self.name: f"train/{self.name}"}

    def paper_row(self, settings: Mapping[str, Any], arm: str) -> str | None:
        """Return the key of the paper's row that an arm's settings match, or None."""
        return None

    def read_figures(self, run: RunDirectory) -> dict[str, Any]:
        """Return what the method's own tables need from an evaluated run."""
        return {}

    def tables(self, rows: Sequence[Row], resampling: Resampling) -> list[Table]:
        """Return the method's own tables, each only if some run has its figures."""
        return []
