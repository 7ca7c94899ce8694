"""An ensemble for real, with the shipped miniatures: towers, their controls, weights, one model distilled from them.

Images are drawn from the bare template, so that no language model runs, and everything trains for one epoch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.small_recipes import FROM_TEMPLATE

RECIPE = f"""\
name: ensemble
{FROM_TEMPLATE}train: {{epochs: 1, mixing: replace, loss: logit_adjustment, sampler: instance, prior: originals}}
ensemble:
  towers: 2
  mixing: balance_mix
  loss: cross_entropy
  sampler: balanced
  zero_shot: true
  tilt: true
  distill: true
evaluate: {{store_logits: true}}
"""
PARTS = ("zero_shot", "control_1", "control_2", "control", "ltgc_1", "ltgc_2", "ltgc_ensemble", "ltgc")


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ltgc_local.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ensemble")
    (path / "ensemble.yaml").write_text(RECIPE)
    done = call(path, "run", "ensemble.yaml")
    assert done.returncode == 0, done.stderr
    (path / "said").write_text(done.stdout)
    return path


def value(folder: Path, name: str) -> Any:
    return json.loads((folder / "runs/ensemble" / name).read_text())


def test_every_part_is_measured_and_the_report_compares_the_whole(folder: Path) -> None:
    metrics = value(folder, "evaluate/metrics.json")
    assert tuple(metrics) == PARTS
    assert len(metrics["ltgc_ensemble"]["chosen"]["weights"]) == 3  # two towers and zero-shot CLIP
    assert sum(metrics["control"]["chosen"]["weights"]) == pytest.approx(1)
    said = (folder / "said").read_text()
    assert all(f"\n{title} " in said for title in ("control 1", "LTGC 2", "LTGC ensemble", "LTGC"))
    summary = value(folder, "report/summary.json")
    assert set(summary["rivals"]["versus"]) == {"zero_shot", "control_1", "control_2", "control"}
    page = (folder / "runs/ensemble/report/report.html").read_text()
    for words in ("LTGC ensemble", "one model, trained to predict as the LTGC ensemble does", "Control 2"):
        assert words in page


def test_the_student_predicts_more_like_its_teachers_than_the_control_does(folder: Path) -> None:
    from ltgc_local.runs.arrays import read_table

    table = read_table(folder / "runs/ensemble/evaluate/predictions.parquet")
    taught = table["ltgc_ensemble.predicted"]
    assert (table["ltgc.predicted"] == taught).mean() > (table["control_2.predicted"] == taught).mean()


def test_validation_is_compared_by_what_chose(folder: Path) -> None:
    done = call(folder, "compare", "runs/ensemble", "--split", "val")
    assert done.returncode == 0, done.stderr
    assert "one model distilled from the ensemble" in done.stdout
    chosen = value(folder, "weigh/ltgc/weights.json")
    assert f"{chosen['validation']['all']:.1f}" in done.stdout


def test_the_same_command_again_has_nothing_to_do(folder: Path) -> None:
    done = call(folder, "run", "ensemble.yaml")
    assert done.returncode == 0, done.stderr
    assert "items," not in done.stderr
