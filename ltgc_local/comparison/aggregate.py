"""Runs -> rows: several seeds of a recipe give a mean with a t interval, one seed a bootstrap interval.

A run has a seed of the generation and one of the training; they are one number unless a recipe says otherwise
(``train_seed``). Trainings on the same generated images are not independent of each other, so where both seeds vary the
interval is over the means of the drawings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ltgc_local.comparison.method_comparison import MethodComparison
from ltgc_local.comparison.read import Run, ignored_settings
from ltgc_local.comparison.table import Cell
from ltgc_local.datasets.groups import SHOTS
from ltgc_local.evaluation.intervals import Interval, Resampling, accuracy_intervals, over_seeds

GROUPS = ("all", *SHOTS)
#: Variants of an arm that its figures may contain, in words.
VARIANTS = {"five_crop": "five crops", "zero_shot_ensemble": "with zero-shot CLIP"}
SIDES = ("head", "tail")  # measured only by methods that split the classes so
#: Arms that do not depend on the seed: all seeds agree, so they get a bootstrap interval.
SEEDLESS = {"zero_shot"}
MEASURES = (*GROUPS, *SIDES, "macro", "macro_f1", "worst", "harmonic", "geometric", "calibration_error")


@dataclass(frozen=True)
class Row:
    """All seeds of one recipe; no other row of the comparison has its label."""

    label: str
    runs: tuple[Run, ...]

    @property
    def settings(self) -> dict[str, Any]:
        return self.runs[0].settings

    @property
    def method(self) -> MethodComparison:
        return self.runs[0].method

    @property
    def drawings(self) -> tuple[Run, ...]:
        """One run of each seed of the generation, for figures that no training changes."""
        return tuple({run.seed: run for run in reversed(self.runs)}.values())[::-1]


@dataclass(frozen=True)
class Line:
    """One arm of a row, or its difference from the control: a line of a table."""

    label: str
    title: str
    arm: str
    variant: str
    seeds: tuple[int, ...]
    cells: dict[str, Cell]
    paper_row: str | None = None  # key of the paper's row that it matches
    train_seeds: tuple[int, ...] = ()  # where the trainings have seeds of their own; ``seeds`` are the generation's


def group_seeds(runs: Sequence[Run]) -> tuple[Row, ...]:
    """Group runs that differ only in the seed; rows of the same name are labelled with the settings that differ."""
    rows: dict[str, dict[tuple[int, int], Run]] = {}
    for run in runs:
        rows.setdefault(run.identity, {}).setdefault((run.seed, run.train_seed), run)  # a copy of a run counts once
    groups = [tuple(by_seed[seed] for seed in sorted(by_seed)) for by_seed in rows.values()]
    return tuple(Row(_label(group[0], [other[0] for other in groups]), group) for group in groups)


def _label(run: Run, others: Sequence[Run]) -> str:
    rivals = [other for other in others if other.name == run.name and other is not run]
    if not rivals:
        return run.name
    differing = sorted(
        key
        for key, value in run.settings.items()
        if key not in ignored_settings() and any(rival.settings.get(key) != value for rival in rivals)
    )
    return f"{run.name} ({', '.join(f'{key}={run.settings[key]}' for key in differing) or run.root})"


def list_lines(rows: Sequence[Row], resampling: Resampling) -> tuple[Line, ...]:
    """Return the lines: zero-shot, controls, then each row's own arm; an arm that several rows share appears once.

    If shared arms have the same title but different figures, their labels say which rows they belong to.
    """
    lines: dict[Any, Line] = {}
    owners: dict[Any, list[str]] = {}
    for row in rows:
        for arm, figures in row.runs[0].metrics.items():
            for variant in ("", *(key for key in figures if key.split("+")[0] in VARIANTS)):
                line = _measure(row, arm, variant, resampling)
                seeds = line.seeds, line.train_seeds
                same = (line.title, seeds, tuple(cell.value for cell in line.cells.values()))
                key = (row.label, same) if arm == row.method.name else same
                lines.setdefault(key, line)
                owners.setdefault(key, []).append(row.label)
    titles = Counter(line.title for line in lines.values() if not line.label)
    for key, line in lines.items():
        if not line.label and titles[line.title] > 1:
            lines[key] = replace(line, label=f"{line.arm} of {', '.join(owners[key])}")
    order = {"zero_shot": 0, "control": 2} | {row.method.name: 3 for row in rows}
    return tuple(sorted(lines.values(), key=lambda line: order.get(line.arm.partition("_")[0], order.get(line.arm, 1))))


def _measure(row: Row, arm: str, variant: str, resampling: Resampling) -> Line:
    runs, seeds, train_seeds = _outcomes([run for run in row.runs if arm in run.metrics], arm)
    figures = [run.metrics[arm][variant] if variant else run.metrics[arm] for run in runs]
    values = {key: [figure.get(key) for figure in figures] for key in MEASURES}
    intervals = _bootstrap(runs, resampling, f"{arm}.{variant}" if variant else arm)
    return Line(
        row.label if arm == row.method.name else "",
        ", ".join(
            [*row.method.describe_arm(row.settings, arm), *(VARIANTS.get(p, p) for p in variant.split("+") if p)]
        ),
        arm,
        variant,
        seeds,
        {key: cell_of(by_drawing(runs, each), intervals.get(key), resampling.level) for key, each in values.items()},
        None if variant else row.method.paper_row(row.settings, arm),
        train_seeds,
    )


def _outcomes(runs: list[Run], arm: str) -> tuple[list[Run], tuple[int, ...], tuple[int, ...]]:
    """Return a run of each different outcome of an arm, and the seeds that it depends on, as of ``Line``."""
    if arm in SEEDLESS:
        return runs[:1], (), ()
    seeds = tuple(dict.fromkeys(run.seed for run in runs))
    if all(run.train_seed == run.seed for run in runs):
        return runs, seeds, ()
    if is_control(arm):
        of_training = {run.train_seed: run for run in reversed(runs)}
        return [of_training[seed] for seed in sorted(of_training)], (), tuple(sorted(of_training))
    first = {run.seed: run for run in reversed(runs)}
    figures = {run.root: [run.metrics[arm].get(key) for key in MEASURES] for run in runs}
    if len(first) < len(runs) and all(figures[run.root] == figures[first[run.seed].root] for run in runs):
        return [first[seed] for seed in seeds], seeds, ()  # it is not trained
    return runs, seeds, tuple(sorted({run.train_seed for run in runs}))


def is_control(arm: str) -> bool:
    """Return whether an arm is a control or one of its parts, which read nothing generated."""
    return arm.partition("_")[0] == "control"


def by_drawing(runs: Sequence[Run], values: Sequence[float | None]) -> list[float | None]:
    """Average the figures of runs on the same generated images, if there are several drawings."""
    drawings: dict[int, list[float | None]] = {}
    for run, value in zip(runs, values, strict=True):
        drawings.setdefault(run.seed, []).append(value)
    if len(drawings) == 1:
        return list(values)
    known = [[value for value in each if value is not None] for each in drawings.values()]
    return [sum(each) / len(each) if each else None for each in known]


def subtract_control(row: Row, resampling: Resampling) -> Line | None:
    """Return a method minus its own control by group, in points, paired by image or seed; None without a control."""
    method = row.method.name
    runs = [run for run in row.runs if {method, "control"} <= run.metrics.keys()]
    if not runs:
        return None
    intervals = _bootstrap(runs, resampling, method, "control")
    cells = {}
    for key in (*GROUPS, *(SIDES if runs[0].tail else ())):
        pairs = [(run.metrics[method].get(key), run.metrics["control"].get(key)) for run in runs]
        differences = [None if one is None or other is None else one - other for one, other in pairs]
        paired = by_drawing(runs, differences)
        cells[key] = cell_of(paired, intervals.get(key), resampling.level, is_difference=True)
    _, seeds, train_seeds = _outcomes(runs, method)
    return Line(row.label, "", method, "", seeds, cells, train_seeds=train_seeds)


def _bootstrap(
    runs: Sequence[Run], resampling: Resampling, arm: str, minus: str | None = None
) -> Mapping[str, Interval | None]:
    """Return the intervals of a single run by group, and by head and tail if the method has them."""
    run = runs[0]
    if len(runs) > 1 or not {arm, minus or arm} <= run.predicted.keys():
        return {}
    correct = run.predicted[arm] == run.labels
    other = None if minus is None else run.predicted[minus] == run.labels

    def intervals(mine: np.ndarray | slice) -> dict[str, Interval | None]:
        return accuracy_intervals(
            correct[mine], run.labels[mine], run.class_counts, resampling, None if other is None else other[mine]
        )

    found = intervals(slice(None))
    if run.tail:
        is_tail = np.isin(run.labels, list(run.tail))
        found |= {"head": intervals(~is_tail)["all"], "tail": intervals(is_tail)["all"]}
    return found


def cell_of(
    values: Sequence[float | None], bootstrap: Interval | None, level: float, is_difference: bool = False
) -> Cell:
    """Return the mean over seeds with its t interval, or a single value with its bootstrap interval."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Cell(known[0] if known else None, bootstrap if known else None, None, is_difference)
    summary = over_seeds(known, level)
    interval = summary.interval
    if interval and not is_difference:  # Student's t does not know that a percentage is within 0 and 100
        interval = max(0.0, interval[0]), min(100.0, interval[1])
    return Cell(summary.mean, interval, summary.sd, is_difference)
