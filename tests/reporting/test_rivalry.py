"""The verdict, the chart and the table of a method against its rivals, from figures that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltgc_local.methods.ltgc.report import LtgcReport
from ltgc_local.reporting import render, summarize
from ltgc_local.reporting.rivals import Rivalry
from ltgc_local.reporting.verdict import PRIOR, Verdict, write_verdict
from ltgc_local.runs.files import Json
from tests.reporting.conftest import ACCURACY, gather_run
from tests.reporting.run_on_disk import RunWriter, make_metrics, make_recipe, shipped_corpus
from tests.reporting.test_verdict import GROUPS

TAUS = [-0.5, 0.0, 0.5]


def lead(points: float, half: float, least: float | None = None) -> dict[str, Any]:
    return {
        "curve": {
            "points": points,
            "interval": [points - half, points + half],
            "least": points if least is None else least,
            "between": [60.0, 80.0],
        },
        "at_equal": {
            "tau": 0.5,
            "one": {"all": 80.0, "few": 75.0, "many": 79.0},
            "other": {"all": 76.0, "few": 67.0, "many": 79.5},
            "interval": {"all": [3.0, 5.0], "few": [6.0, 10.0], "many": None},
        },
    }


def rivals(**leads: dict[str, Any]) -> dict[str, Any]:
    names = ("ltgc", *leads)
    curves = {
        name: {"all": [70.0, 75.0, 72.0], "few": [40.0, 60.0, 80.0], "many": [90.0, 80.0, 60.0]} for name in names
    }
    tuned = {name: {"tau": 0.0, "all": 75.0, "few": 60.0, "many": 80.0} for name in names}
    tuned["ltgc"] |= {"tau": 0.5, "all": 78.2}
    sides = {"rare": "few", "frequent": "many"}
    return {"sides": sides, "taus": TAUS, "curves": curves, "tuned": tuned, "versus": leads}


def report_of(root: Path, found: dict[str, Any]) -> Any:
    corpus, recipe = shipped_corpus(), make_recipe()
    metrics = make_metrics(corpus, ACCURACY)
    writer = RunWriter(root, recipe, corpus)
    run = writer.write_all(metrics)
    writer.write("evaluate", [Json("metrics", metrics), Json("rivals", found)], 1, numbered=False)
    return gather_run(run, recipe, corpus)


@pytest.mark.parametrize(
    ("points", "half", "outcome", "words"),
    [
        (8.0, 2.0, "better", "LTGC gets 8.0 points more of the few-shot images right than the best of them, “Control”"),
        (1.0, 2.0, "unclear", "LTGC cannot be told apart from the best of them, “Control”, on few-shot images"),
        (-5.0, 2.0, "worse", "gets 5.0 points fewer of the few-shot images right than the best of them, “Control”"),
    ],
)
def test_the_rival_over_which_the_lead_is_smallest_decides(
    tmp_path: Path, points: float, half: float, outcome: str, words: str
) -> None:
    report = report_of(tmp_path, rivals(zero_shot=lead(30.0, 2.0), control=lead(points, half)))
    verdict: Verdict = report.verdict
    assert verdict.outcome == outcome
    assert words in verdict.headline
    assert verdict.headline.startswith("Where LTGC and its controls do equally well on many-shot classes, LTGC ")
    assert verdict.sentences[0] == "As trained, it gets 88.6 % of them right and its control 66.9 %."
    assert PRIOR not in verdict.sentences  # the curves have decided it
    assert ("do not help" in verdict.headline) == (outcome == "worse")
    assert ("does not show that the generated images help" in verdict.headline) == (outcome == "unclear")


def test_the_page_shows_the_curves_and_the_leads(tmp_path: Path) -> None:
    report = report_of(tmp_path, rivals(zero_shot=lead(30.0, 2.0), control=lead(8.0, 2.0, least=5.5)))
    rivalry: Rivalry = report.rivalry
    assert [rival.arm.name for rival in rivalry.rivals] == ["control", "zero_shot"]  # the strongest first
    assert rivalry.chart.lines[0].arm == "ltgc"
    # many from 60 to 90 and few from 40 to 80 fill the box: the points are (100, bottom), (66.67, middle), (0, top).
    assert rivalry.chart.lines[0].points == "100.00,100.00 66.67,50.00 0.00,0.00"
    assert (rivalry.chart.spots[0].x, rivalry.chart.spots[0].y) == (pytest.approx(200 / 3), pytest.approx(50))
    html = render(report)
    assert "At equal accuracy on many" in html
    assert "+6.0 to +10.0" in html and "+5.5" in html and "tau 0.50" in html
    assert "(LTGC: 78.2 %)" in html and "+3.2" in html and "75.0 %, tau 0.00" in html
    found = summarize(report)["rivals"]
    assert found["versus"]["control"]["outcome"] == "better"
    assert found["versus"]["control"]["curve"]["points"] == 8.0


def test_without_rare_and_frequent_classes_the_control_decides_as_it_is(tmp_path: Path) -> None:
    report = report_of(tmp_path, {})
    assert report.rivalry is None
    assert "does better than its control" in report.verdict.headline
    assert summarize(report)["rivals"] is None
    assert "At equal accuracy" not in render(report)


def test_curves_that_cannot_be_compared_decide_nothing(tmp_path: Path) -> None:
    apart = {"curve": None, "at_equal": None}
    report = report_of(tmp_path, rivals(control=apart))
    assert "does better than its control" in report.verdict.headline
    assert report.rivalry.best.outcome == "unclear"
    render(report)


def test_a_run_without_a_control_claims_nothing() -> None:
    assert write_verdict([], GROUPS, 9, LtgcReport(), "LTGC", None).outcome is None
