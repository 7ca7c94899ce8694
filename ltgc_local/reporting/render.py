"""Facts -> one HTML page that needs nothing else: styles, charts and images are inside, and it runs no script."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ltgc_local.printable import printable
from ltgc_local.reporting.acceptance import sum_rounds
from ltgc_local.reporting.accuracy import Arm
from ltgc_local.reporting.gallery import images_per_class
from ltgc_local.reporting.gather import Report
from ltgc_local.reporting.verdict import signed

LONG_TABLE = 60  # rows; of a longer table the rarest classes are shown and the rest is folded away
SHOWN_OF_LONG = 30


def render(report: Report) -> str:
    """Return the page. Every value is escaped, control characters are shown, and nothing in it refers to another file
    or to the network; its Content-Security-Policy has browsers hold it to that."""
    # The page's templates lie next to this module, those of a method's own sections in its folder.
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, report.method.templates]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": _signed, "whole": whole, "duration": duration}
    shown = len(report.galleries)
    page = environment.get_template("report.html").render(
        report=report,
        best=best_values(report.arms),
        rounds=sum_rounds(report.acceptance),
        per_class=images_per_class(report.recipe, shown, report.assessment.attempts if report.assessment else 1),
        left_out=len(report.tail) - shown,
        long_table=LONG_TABLE,
        shown_of_long=SHOWN_OF_LONG,
    )
    return printable(page)


def best_values(arms: tuple[Arm, ...]) -> dict[str, str]:
    """Return the highest accuracy of every group as it is printed, so that equal prints are equally best."""
    groups = arms[0].by_group if arms else ()
    columns = {group: [v for arm in arms if (v := arm.by_group[group]) is not None] for group in groups}
    return {group: number(max(values, default=None)) for group, values in columns.items()}


def number(value: float | None, digits: int = 1) -> str:
    """Write a number, a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def whole(value: float) -> str:
    """Write a count, or the mean of counts, with thousands apart."""
    return f"{round(value):,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Write seconds as people do: 8.4 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _signed(value: float | None) -> str:
    return "–" if value is None else signed(value)
