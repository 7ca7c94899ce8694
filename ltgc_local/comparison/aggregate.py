"""Runs -> rows: the seeds of one recipe become a mean with a t interval, a single run gets its bootstrap interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ltgc_local.comparison.compared import MethodComparison
from ltgc_local.comparison.read import NOT_TELLING, Run
from ltgc_local.datasets.groups import SHOTS
from ltgc_local.evaluation.intervals import Interval, Resampling, accuracy_intervals, difference_intervals, over_seeds

GROUPS = ("all", *SHOTS)
#: What an arm's figures may hold beside its own: it with other views, or with another model.
VARIANTS = {"five_crop": "five crops", "zero_shot_ensemble": "with zero-shot CLIP"}
SIDES = ("head", "tail")  # of the method that has them
#: Arms on which the seed has no influence: every seed's figures are the same, and so have a bootstrap interval.
SEEDLESS = {"zero_shot"}
MEASURES = (*GROUPS, *SIDES, "macro", "macro_f1", "worst", "harmonic", "geometric", "calibration_error")


@dataclass(frozen=True)
class Cell:
    """A figure with its interval, each None where there is none; ``sd`` is over seeds."""

    value: float | None
    interval: Interval | None = None
    sd: float | None = None
    is_difference: bool = False


@dataclass(frozen=True)
class Row:
    """All seeds of one recipe, under a label that no other row of the comparison has."""

    label: str
    runs: tuple[Run, ...]

    @property
    def settings(self) -> dict[str, Any]:
        return self.runs[0].settings

    @property
    def method(self) -> MethodComparison:
        return self.runs[0].method


@dataclass(frozen=True)
class Line:
    """One arm of a row, measured: a line of the table. ``method`` is the paper's row that it stands for, if any."""

    label: str
    title: str
    arm: str
    variant: str
    seeds: tuple[int, ...]
    cells: dict[str, Cell]
    method: str | None


def group_seeds(runs: Sequence[Run]) -> tuple[Row, ...]:
    """Group runs that differ in the seed only; where two rows would have one label, it names what tells them apart."""
    rows: dict[str, dict[int, Run]] = {}
    for run in runs:
        rows.setdefault(run.identity, {}).setdefault(run.seed, run)  # a copy of a run counts once
    groups = [tuple(by_seed[seed] for seed in sorted(by_seed)) for by_seed in rows.values()]
    return tuple(Row(_label(group[0], [other[0] for other in groups]), group) for group in groups)


def _label(run: Run, others: Sequence[Run]) -> str:
    rivals = [other for other in others if other.name == run.name and other is not run]
    if not rivals:
        return run.name
    telling = sorted(
        key
        for key, value in run.settings.items()
        if key not in NOT_TELLING and any(rival.settings.get(key) != value for rival in rivals)
    )
    shown = ", ".join(f"{key}={run.settings[key]}" for key in telling)
    return f"{run.name} ({shown or run.root})"


def list_lines(rows: Sequence[Row], resampling: Resampling) -> tuple[Line, ...]:
    """Return the lines: zero-shot first, controls, then each row; an arm that several rows share stands once.

    Where arms of other rows have one title and not the same figures, the label says whose each is.
    """
    lines: dict[Any, Line] = {}
    owners: dict[Any, list[str]] = {}
    for row in rows:
        for arm, figures in row.runs[0].metrics.items():
            for variant in ("", *(key for key in figures if key.split("+")[0] in VARIANTS)):
                line = _measure(row, arm, variant, resampling)
                same = (line.title, line.seeds, tuple(cell.value for cell in line.cells.values()))
                key = (row.label, same) if arm == row.method.name else same
                lines.setdefault(key, line)
                owners.setdefault(key, []).append(row.label)
    titles = Counter(line.title for line in lines.values() if not line.label)
    named = [
        replace(line, label=f"{line.arm} of {', '.join(owners[key])}")
        if not line.label and titles[line.title] > 1
        else line
        for key, line in lines.items()
    ]
    order = {"zero_shot": 0, "control": 2} | {row.method.name: 3 for row in rows}
    return tuple(sorted(named, key=lambda line: order.get(line.arm, 1)))


def _measure(row: Row, arm: str, variant: str, resampling: Resampling) -> Line:
    runs = [run for run in row.runs if arm in run.metrics]
    if arm in SEEDLESS:
        runs = runs[:1]
    figures = [run.metrics[arm][variant] if variant else run.metrics[arm] for run in runs]
    name = f"{arm}.{variant}" if variant else arm

    def bootstrap(run: Run) -> dict[str, Interval | None]:
        if name not in run.predicted:
            return {}
        return _by_group(
            run,
            lambda correct, mine: accuracy_intervals(
                correct[name][mine], run.labels[mine], run.class_counts, resampling
            ),
        )

    values = {key: [figure.get(key) for figure in figures] for key in MEASURES}
    words = [VARIANTS.get(part, part) for part in variant.split("+") if part]
    return Line(
        row.label if arm == row.method.name else "",
        ", ".join([*row.method.describe_arm(row.settings, arm), *words]),
        arm,
        variant,
        () if arm in SEEDLESS else tuple(run.seed for run in runs),
        _cells(values, runs, bootstrap, resampling.level),
        None if variant else row.method.paper_row(row.settings, arm),
    )


def subtract_control(row: Row, resampling: Resampling) -> dict[str, Cell] | None:
    """Return a method minus its own control by group, in points, paired by image or seed; None without a control."""
    arms = (row.method.name, "control")
    runs = [run for run in row.runs if set(arms) <= run.metrics.keys()]
    if not runs:
        return None

    def bootstrap(run: Run) -> dict[str, Interval | None]:
        if not set(arms) <= run.predicted.keys():
            return {}
        return _by_group(
            run,
            lambda correct, mine: difference_intervals(
                correct[arms[0]][mine], correct[arms[1]][mine], run.labels[mine], run.class_counts, resampling
            ),
        )

    values: dict[str, list[float | None]] = {}
    for key in (*GROUPS, *(SIDES if runs[0].tail else ())):
        pairs = [(run.metrics[arms[0]].get(key), run.metrics["control"].get(key)) for run in runs]
        values[key] = [None if one is None or other is None else one - other for one, other in pairs]
    return _cells(values, runs, bootstrap, resampling.level, is_difference=True)


def _by_group(
    run: Run, measure: Callable[[dict[str, np.ndarray], np.ndarray], dict[str, Interval | None]]
) -> dict[str, Interval | None]:
    """Return the intervals of all test images, and of head and tail where the method has them."""
    correct = {name: predicted == run.labels for name, predicted in run.predicted.items()}
    found = measure(correct, np.ones(len(run.labels), dtype=bool))
    if run.tail:
        is_tail = np.isin(run.labels, list(run.tail))
        found |= {"head": measure(correct, ~is_tail)["all"], "tail": measure(correct, is_tail)["all"]}
    return found


def _cells(
    values: dict[str, list[float | None]],
    runs: Sequence[Run],
    bootstrap: Callable[[Run], dict[str, Interval | None]],
    level: float,
    is_difference: bool = False,
) -> dict[str, Cell]:
    intervals = bootstrap(runs[0]) if len(runs) == 1 else {}
    cells = {}
    for key, per_seed in values.items():
        known = [value for value in per_seed if value is not None]
        if not known:
            cells[key] = Cell(None, is_difference=is_difference)
        elif len(known) == 1:
            cells[key] = Cell(known[0], intervals.get(key), None, is_difference)
        else:
            summary = over_seeds(known, level)
            interval = summary.interval if is_difference else _within_percent(summary.interval)
            cells[key] = Cell(summary.mean, interval, summary.sd, is_difference)
    return cells


def _within_percent(interval: Interval | None) -> Interval | None:
    """Cut an interval of percentages at 0 and 100, which Student's t knows nothing of."""
    return None if interval is None else (max(0.0, interval[0]), min(100.0, interval[1]))
