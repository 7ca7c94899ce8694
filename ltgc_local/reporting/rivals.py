"""The method against its rivals where both do as well on frequent classes: a chart, a table, the best rival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ltgc_local.evaluation.outcome import Outcome, outcome_of
from ltgc_local.reporting.accuracy import Arm
from ltgc_local.reporting.charts import Line, Tick, nice_ticks
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.schemas import AtEqual, CurveLead, Rivals


@dataclass(frozen=True)
class Rival:
    """One rival. ``lead`` is the method's over it by their curves, ``at_equal`` at the tau that validation chose."""

    arm: Arm
    lead: CurveLead | None
    at_equal: AtEqual | None
    tuned: dict[str, float] | None  # the rival itself at the tau that is best on validation

    @property
    def outcome(self) -> Outcome:
        """Whether the method's curve lies above the rival's, below it, or neither for certain."""
        return "unclear" if self.lead is None else outcome_of(self.lead.points, self.lead.interval)


@dataclass(frozen=True)
class Spot:
    """An arm as it was trained: a place on the chart, in percent of its width and height from the lower left."""

    arm: str
    x: float
    y: float


@dataclass(frozen=True)
class CurveChart:
    """Curves of accuracy on rare classes (up) against accuracy on frequent ones (to the right)."""

    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class Rivalry:
    """The method and its rivals, the strongest first; ``rare`` and ``frequent`` are names of groups."""

    rare: str
    frequent: str
    rivals: tuple[Rival, ...]
    tuned: dict[str, float] | None  # the method at the tau that is best on validation
    chart: CurveChart
    taus: tuple[float, float]  # the least and the greatest

    @property
    def best(self) -> Rival:
        """The rival over which the method's lead is smallest."""
        return self.rivals[0]

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms that the chart shows."""
        return tuple(line.arm for line in self.chart.lines)


def read_rivals(run: RunDirectory, arms: Sequence[Arm], treated: str) -> Rivalry | None:
    """Read ``evaluate/rivals.json``; None if it compares nothing."""
    if not run.files("evaluate", "rivals"):
        return None
    found = run.checked("evaluate", "rivals", Rivals)
    by_name = {arm.name: arm for arm in arms}
    rivals = [
        Rival(by_name[name], versus.curve, versus.at_equal, found.tuned.get(name))
        for name, versus in found.versus.items()
        if name in by_name
    ]
    if found.sides is None or not rivals:
        return None
    rivals.sort(key=lambda rival: float("inf") if rival.lead is None else rival.lead.points)
    shown = [name for name in found.curves if name == treated or name in found.versus]
    chart = draw_curves(found, shown)
    taus = min(found.taus), max(found.taus)
    return Rivalry(found.sides.rare, found.sides.frequent, tuple(rivals), found.tuned.get(treated), chart, taus)


def draw_curves(found: Rivals, shown: Sequence[str]) -> CurveChart:
    """Place the curves of some arms."""
    assert found.sides is not None
    curves = {arm: (found.curves[arm][found.sides.frequent], found.curves[arm][found.sides.rare]) for arm in shown}
    plain = min(range(len(found.taus)), key=lambda place: abs(found.taus[place]))
    x_low, x_high, x_ticks = _axis([x for xs, _ in curves.values() for x in xs])
    y_low, y_high, y_ticks = _axis([y for _, ys in curves.values() for y in ys])

    def place(x: float, y: float) -> tuple[float, float]:
        return 100 * (x - x_low) / (x_high - x_low), 100 * (y - y_low) / (y_high - y_low)

    lines, spots = [], []
    for arm, (xs, ys) in curves.items():
        places = [place(x, y) for x, y in zip(xs, ys, strict=True)]
        lines.append(Line(arm, " ".join(f"{x:.2f},{100 - y:.2f}" for x, y in places), ys[plain]))
        spots.append(Spot(arm, *places[plain]))
    return CurveChart(x_ticks, y_ticks, tuple(lines), tuple(spots))


def _axis(values: Sequence[float]) -> tuple[float, float, tuple[Tick, ...]]:
    marks = nice_ticks(min(values), max(values))
    low, high = marks[0], marks[-1]
    return low, high, tuple(Tick(f"{mark:g}", 100 * (mark - low) / (high - low)) for mark in marks)
