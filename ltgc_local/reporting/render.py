"""Facts -> one self-contained HTML page (styles, charts and images inline, no script), and its figures as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ltgc_local.printable import printable
from ltgc_local.reporting.acceptance import sum_rounds
from ltgc_local.reporting.gallery import images_per_class
from ltgc_local.reporting.gather import Report
from ltgc_local.reporting.rivals import Rivalry
from ltgc_local.reporting.verdict import signed

LONG_TABLE = 60  # rows; a longer table shows the rarest classes and folds away the rest
SHOWN_OF_LONG = 30


def page_environment(*folders: Path) -> Environment:
    """Return a strict, escaping environment for pages whose templates are in ``folders`` or next to this module."""
    return Environment(
        loader=FileSystemLoader([Path(__file__).parent, *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(report: Report) -> str:
    """Return the page.

    Every value is escaped and control characters are made visible. The page refers to no other file and not to the
    network, and its Content-Security-Policy makes browsers enforce that.
    """
    environment = page_environment(report.method.templates)
    environment.filters |= {"number": number, "signed": signed, "whole": whole, "duration": duration}
    environment.filters |= {"size": size, "energy": energy}
    shown, provenance = len(report.galleries), report.provenance
    page = environment.get_template("report.html").render(
        report=report,
        models=provenance.models if provenance else {},
        packages=provenance.packages if provenance else {},
        facts=provenance.model_dump(exclude={"packages", "models"}) if provenance else {},
        best={group.name: _best([arm.by_group[group.name] for arm in report.arms]) for group in report.groups},
        rounds=sum_rounds(report.acceptance),
        per_class=images_per_class(report.recipe, shown, report.assessment.attempts if report.assessment else 1),
        left_out=len(report.tail) - shown,
        long_table=LONG_TABLE,
        shown_of_long=SHOWN_OF_LONG,
    )
    return printable(page)


def summarize(report: Report) -> dict[str, Any]:
    """Return the figures that the page shows: accuracies in percent, differences in points, times in seconds."""
    verdict = {**vars(report.verdict), "sentences": list(report.verdict.sentences)}
    differences = verdict.pop("differences")
    return {
        "name": report.recipe.name,
        "method": report.method.name,
        "benchmark": report.recipe.data.benchmark,
        "seed": report.recipe.seed,
        "evidence": report.evidence.level,
        "verdict": verdict,
        "warnings": [{"step": step, "text": text} for step, text in report.warnings],
        "accuracy": {arm.name: dict(arm.by_group) for arm in report.arms},
        "difference": {
            group: {"points": d.points, "interval": d.interval, "outcome": d.outcome}
            for group, d in differences.items()
        },
        "rivals": _rivals(report.rivalry),
        "groups": {g.name: {"classes": g.num_classes, "test_images": g.num_test} for g in report.groups},
        "classes": [asdict(row) | {"difference": row.difference} for row in report.classes],
        "rounds": [asdict(each) for each in sum_rounds(report.acceptance)],
        "acceptance": [asdict(row) for row in report.acceptance],
        "leaks": [asdict(group.count) for group in report.leaks.groups] if report.leaks else None,
        "timings": [asdict(timing) for timing in report.timings],
        "costs": {
            "total": report.total_costs.model_dump(),
            "steps": {step: costs.model_dump() for step, costs in report.costs.items()},
        },
    } | {name: figures for section in report.sections for name, figures in section.figures.items()}


def _rivals(rivalry: Rivalry | None) -> dict[str, Any] | None:
    """Return the leads over the rivals, the smallest first."""
    if rivalry is None:
        return None
    leads = {
        rival.arm.name: {
            "outcome": rival.outcome,
            "curve": rival.lead and rival.lead.model_dump(),
            "at_equal": rival.at_equal and rival.at_equal.model_dump(),
            "tuned": rival.tuned,
        }
        for rival in rivalry.rivals
    }
    return {"rare": rivalry.rare, "frequent": rivalry.frequent, "tuned": rivalry.tuned, "versus": leads}


def _best(values: Sequence[float | None]) -> str:
    """Return the highest value as printed, so that values that print alike are equally good."""
    return number(max((value for value in values if value is not None), default=None))


def number(value: float | None, digits: int = 1) -> str:
    """Write a number, or a dash if there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def whole(value: float) -> str:
    """Write a count, or a mean of counts, with a thin space between thousands."""
    return f"{round(value):,}".replace(",", "\u202f")


def size(count: float) -> str:
    """Write a number of bytes: 3.2 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def energy(joules: float | None) -> str:
    """Write joules as watt-hours, or a dash if they are not known."""
    return "–" if joules is None else f"{joules / 3600:.1f} Wh" if joules < 3.6e6 else f"{joules / 3.6e6:.2f} kWh"


def duration(seconds: float) -> str:
    """Write seconds as people do: 8.4 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
