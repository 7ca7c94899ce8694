"""Each row against its rivals where both do as well on frequent classes, over seeds."""

from __future__ import annotations

from collections.abc import Sequence

from ltgc_local.comparison.aggregate import Row, by_drawing, cell_of
from ltgc_local.comparison.read import Run
from ltgc_local.comparison.table import Cell, Table, TableRow, join_seeds
from ltgc_local.evaluation.intervals import Interval, Resampling
from ltgc_local.runs.schemas import AtEqual, Ends, SideNames, Versus


def compare_rivals(rows: Sequence[Row], resampling: Resampling) -> list[Table]:
    """Return a table for each pair of rare and frequent classes; none for runs that compare no rivals."""
    by_sides: dict[tuple[str, str], list[TableRow]] = {}
    for row in rows:
        sides = row.runs[0].rivals.sides
        if sides is not None:
            by_sides.setdefault((sides.rare, sides.frequent), []).extend(_lines(row, sides, resampling.level))
    return [_table(rare, frequent, tuple(lines)) for (rare, frequent), lines in by_sides.items() if lines]


def _table(rare: str, frequent: str, rows: tuple[TableRow, ...]) -> Table:
    note = (
        f"Points: each row minus each of its rivals, where both are as good on {frequent}. A lead by curves is the "
        f"mean difference on {rare} over all accuracies on {frequent} that both reach by subtracting tau log n from "
        "their scores (n: a class's training images), and the least is the smallest of these differences in any run. "
        f"'At equal {frequent}' compares them at one tau, chosen on the validation images."
    )
    at = f"at equal {frequent}"
    heading = ("row", "against", "seeds", f"{rare}, lead by curves", "least", f"{rare} {at}", f"all {at}", frequent)
    return Table("rivals", f"At the same accuracy on {frequent}", note, heading, rows)


def _lines(row: Row, sides: SideNames, level: float) -> list[TableRow]:
    """Return a line per rival, in the order of the runs' figures."""
    runs = [run for run in row.runs if run.rivals.sides == sides]
    every = [run.rivals.versus for run in runs]
    seeds = tuple(dict.fromkeys(run.seed for run in runs))
    trainings = () if all(run.train_seed == run.seed for run in runs) else tuple(sorted({r.train_seed for r in runs}))
    found: list[TableRow] = []
    for rival in dict.fromkeys(name for versus in every for name in versus):
        mine = [versus.get(rival, Versus(curve=None, at_equal=None)) for versus in every]
        curves, equals = [each.curve for each in mine], [each.at_equal for each in mine]
        leads = [None if curve is None else curve.points for curve in curves]
        lead = cell_of(
            by_drawing(runs, leads),
            _only([None if curve is None else curve.interval for curve in curves]),
            level,
            is_difference=True,
        )
        least = min((curve.least for curve in curves if curve is not None), default=None)
        cells = (_at_equal(runs, equals, group, level) for group in (sides.rare, "all", sides.frequent))
        words = ", ".join(row.method.describe_arm(row.settings, rival))
        found.append((row.label, words, join_seeds(seeds, trainings), lead, Cell(least, is_difference=True), *cells))
    return found


def _at_equal(runs: Sequence[Run], equals: Sequence[AtEqual | None], group: str, level: float) -> Cell:
    differences = [None if each is None else each.one[group] - each.other[group] for each in equals]
    interval = _only([None if each is None else each.interval.get(group) for each in equals])
    return cell_of(by_drawing(runs, differences), interval, level, is_difference=True)


def _only(ends: Sequence[Ends | None]) -> Interval | None:
    """Return the interval of a single run; those of several say nothing about seeds."""
    return (ends[0][0], ends[0][1]) if len(ends) == 1 and ends[0] is not None else None
