"""The report's figures as one JSON value, for scripts."""

from __future__ import annotations

import dataclasses
from typing import Any

from ltgc_local.reporting.acceptance import sum_rounds
from ltgc_local.reporting.gather import Report


def summarize(report: Report) -> dict[str, Any]:
    """Return the figures that the page shows: accuracies in percent, differences in points, times in seconds."""
    verdict = report.verdict
    return {
        "name": report.recipe.name,
        "method": report.method.name,
        "benchmark": report.recipe.data.benchmark,
        "seed": report.recipe.seed,
        "evidence": report.evidence.level,
        "verdict": {
            "outcome": verdict.outcome,
            "headline": verdict.headline,
            "sentences": list(verdict.sentences),
            "caveat": verdict.caveat,
        },
        "warnings": [{"step": step, "text": text} for step, text in report.warnings],
        "accuracy": {arm.name: dict(arm.by_group) for arm in report.arms},
        "difference": {
            group: {"points": d.points, "interval": d.interval, "outcome": d.outcome}
            for group, d in verdict.differences.items()
        },
        "groups": {g.name: {"classes": g.num_classes, "test_images": g.num_test} for g in report.groups},
        "classes": [dataclasses.asdict(row) | {"difference": row.difference} for row in report.classes],
        "rounds": [{"drawn": r.drawn, "accepted": r.accepted} for r in sum_rounds(report.acceptance)],
        "acceptance": [dataclasses.asdict(row) for row in report.acceptance],
        "leaks": [dataclasses.asdict(group.count) for group in report.leaks.groups] if report.leaks else None,
        "timings": [dataclasses.asdict(timing) for timing in report.timings],
    } | {name: figures for section in report.sections for name, figures in section.figures.items()}
