"""Numbers -> places on charts, in percent of the chart's width or height; the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.reporting.accuracy import Arm, ClassRow

MAX_ROWS = 40  # of a chart; more classes are averaged, neighbours in training count together
LINEAR_UP_TO = 30  # ratio of the longest bar to the shortest
LOG_START = 0.5  # images at the left edge of a logarithmic scale, so that one image still shows


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    label: str
    at: float


@dataclass(frozen=True)
class Dot:
    """One arm's accuracy on a row."""

    arm: str
    at: float


@dataclass(frozen=True)
class ChartRow:
    """One class, or several neighbours averaged: a stacked bar and its dots."""

    label: str
    originals: float
    generated: float
    bar: tuple[float, float]  # where originals end, where generated end
    dots: tuple[Dot, ...]
    difference: float | None  # the method minus its control, in points


@dataclass(frozen=True)
class ClassChart:
    """The rows of both class charts, and the scale of the bars."""

    rows: tuple[ChartRow, ...]
    scale: str  # "linear" or "logarithmic"
    ticks: tuple[Tick, ...]
    classes_a_row: int


@dataclass(frozen=True)
class Line:
    """One arm's curve as SVG points in a box of 100 x 100."""

    arm: str
    points: str
    last: float


@dataclass(frozen=True)
class Panel:
    """One small chart of lines over epochs."""

    title: str
    ticks: tuple[Tick, ...]  # of the y axis, from below
    lines: tuple[Line, ...]
    num_epochs: int


def draw_classes(classes: Sequence[ClassRow], arms: Sequence[Arm]) -> ClassChart:
    """Place every class's images and accuracies, the class with most training images first."""
    size = max(1, math.ceil(len(classes) / MAX_ROWS))
    parts = [classes[start : start + size] for start in range(0, len(classes), size)]
    heights = [(_mean([c.num_train for c in part]), _mean([c.num_generated for c in part])) for part in parts]
    totals = [originals + generated for originals, generated in heights]
    longest, shortest = max(totals, default=1) or 1, min((t for t in totals if t > 0), default=1)
    linear = longest <= LINEAR_UP_TO * shortest
    rows = []
    for part, (originals, generated) in zip(parts, heights, strict=True):
        bar = (_place(originals, longest, linear), _place(originals + generated, longest, linear))
        dots = []
        for arm in arms:
            values = [v for c in part if (v := c.accuracy.get(arm.name)) is not None]
            if values:
                dots.append(Dot(arm.name, _mean(values)))
        label = part[0].name if size == 1 else f"{part[0].num_train}–{part[-1].num_train}"
        known = [c.difference for c in part if c.difference is not None]
        rows.append(ChartRow(label, originals, generated, bar, tuple(dots), _mean(known) if known else None))
    marks = nice_ticks(0, longest) if linear else [10.0**e for e in range(math.floor(math.log10(longest)) + 1)]
    ticks = tuple(Tick(f"{mark:g}", _place(mark, longest, linear)) for mark in marks if mark <= longest)
    return ClassChart(tuple(rows), "linear" if linear else "logarithmic", ticks, size)


def draw_panel(title: str, curves: Mapping[str, Sequence[float | None]]) -> Panel | None:
    """Place one curve an arm over its epochs; None if no arm has values."""
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
    """Return round numbers from at or below ``low`` to at or below ``high`` plus one step, about ``number`` of them."""
    span = (high - low) or abs(high) or 1.0
    raw = span / number
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _place(value: float, longest: float, linear: bool) -> float:
    if linear:
        return 100 * value / longest
    return 100 * max(0.0, math.log(max(value, LOG_START) / LOG_START)) / math.log(longest / LOG_START)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
