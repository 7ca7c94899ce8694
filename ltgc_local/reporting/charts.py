"""Positions on charts, in percent of the chart's width or height; the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean as mean
from typing import NamedTuple

from ltgc_local.reporting.accuracy import Arm, ClassRow

MAX_ROWS = 40  # of a chart; with more classes, classes with similar counts are averaged
LINEAR_UP_TO = 30  # ratio of the longest bar to the shortest
LOG_START = 0.5  # images at the left edge of a logarithmic scale, so that one image is still visible


class Tick(NamedTuple):
    """A labelled position on an axis."""

    label: str
    at: float


class Dot(NamedTuple):
    """One arm's accuracy in a row."""

    arm: str
    at: float


class Line(NamedTuple):
    """One arm's curve as SVG points in a box of 100 x 100."""

    arm: str
    points: str
    last: float


@dataclass(frozen=True)
class ChartRow:
    """One class, or the mean of several: a stacked bar and its dots."""

    label: str
    originals: float
    generated: float
    bar: tuple[float, float]  # where originals end, where generated images end
    dots: tuple[Dot, ...]
    difference: float | None  # the method minus its control, in points


@dataclass(frozen=True)
class ClassChart:
    """The rows of both class charts, and the scale of the bars."""

    rows: tuple[ChartRow, ...]
    scale: str  # "linear" or "logarithmic"
    ticks: tuple[Tick, ...]
    classes_per_row: int


@dataclass(frozen=True)
class Panel:
    """One small line chart over epochs."""

    title: str
    ticks: tuple[Tick, ...]  # of the y axis, from below
    lines: tuple[Line, ...]
    num_epochs: int


def draw_classes(classes: Sequence[ClassRow], arms: Sequence[Arm]) -> ClassChart:
    """Place every class's numbers of images and accuracies, in the order of ``classes``."""
    size = max(1, math.ceil(len(classes) / MAX_ROWS))
    parts = [classes[start : start + size] for start in range(0, len(classes), size)]
    heights = [(mean(c.num_train for c in part), mean(c.num_generated for c in part)) for part in parts]
    totals = [originals + generated for originals, generated in heights]
    longest, shortest = max(totals, default=1) or 1, min((t for t in totals if t > 0), default=1)
    linear = longest <= LINEAR_UP_TO * shortest

    def place(value: float) -> float:
        if linear:
            return 100 * value / longest
        return 100 * max(0.0, math.log(max(value, LOG_START) / LOG_START)) / math.log(longest / LOG_START)

    rows = []
    for part, (originals, generated) in zip(parts, heights, strict=True):
        label = part[0].name if size == 1 else f"{part[0].num_train}–{part[-1].num_train}"
        accuracies = {arm.name: _mean_of_known(c.accuracy.get(arm.name) for c in part) for arm in arms}
        dots = tuple(Dot(arm, value) for arm, value in accuracies.items() if value is not None)
        bar = (place(originals), place(originals + generated))
        rows.append(ChartRow(label, originals, generated, bar, dots, _mean_of_known(c.difference for c in part)))
    marks = nice_ticks(0, longest) if linear else [10.0**e for e in range(math.floor(math.log10(longest)) + 1)]
    ticks = tuple(Tick(f"{mark:g}", place(mark)) for mark in marks if mark <= longest)
    return ClassChart(tuple(rows), "linear" if linear else "logarithmic", ticks, size)


def draw_panel(title: str, curves: Mapping[str, Sequence[float | None]]) -> Panel | None:
    """Place one curve per arm over its epochs; None if no arm has values."""
    known = {arm: [v for v in values if v is not None and math.isfinite(v)] for arm, values in curves.items()}
    known = {arm: values for arm, values in known.items() if values}
    if not known:
        return None
    low, high = min(map(min, known.values())), max(map(max, known.values()))
    marks = nice_ticks(low, high)
    low, high = min(low, marks[0]), max(high, marks[-1])
    span = (high - low) or 1.0

    def points(values: list[float]) -> str:
        if len(values) == 1:
            values = values * 2  # one epoch: a level line
        places = [(100 * i / (len(values) - 1), 100 - 100 * (v - low) / span) for i, v in enumerate(values)]
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in places)

    lines = tuple(Line(arm, points(values), values[-1]) for arm, values in known.items())
    ticks = tuple(Tick(f"{mark:g}", 100 * (mark - low) / span) for mark in marks)
    return Panel(title, ticks, lines, max(map(len, known.values())))


def nice_ticks(low: float, high: float, number: int = 4) -> list[float]:
    """Return about ``number`` round values that cover ``low`` to ``high``."""
    span = (high - low) or abs(high) or 1.0
    raw = span / number
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None
