"""A table for real, with the shipped miniatures: one command, shared steps, figures that compare; then again, and more.

Two rows draw from the bare template, so that no language model runs, and train for one epoch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_recipes import FROM_TEMPLATE

TABLE = f"""\
name: small
{FROM_TEMPLATE}train: {{epochs: 1, loss: cross_entropy, prior: effective, sampler: balanced}}
ensemble: null
rows:
  union:
    train: {{mixing: union}}
  balance_mix:
    train: {{mixing: balance_mix}}
"""


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "ltgc_local.cli", "run", "small.yaml", *more]
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, timeout=600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table")
    (path / "small.yaml").write_text(TABLE)
    return path


@pytest.fixture(scope="module")
def first(folder: Path) -> subprocess.CompletedProcess[str]:
    result = run(folder)
    assert result.returncode == 0, result.stderr
    return result


def test_the_second_row_takes_all_but_its_training_from_the_first(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    done = [line for line in first.stderr.splitlines() if "items," in line]
    assert sorted(line.split(":")[0] + ":" + line.split(":")[1] for line in done) == sorted(
        [
            *(
                f"union/seed-0: {s}"
                for s in ("extend", "draw", "generated", "train/ltgc", "train/control", "evaluate", "report")
            ),
            *(f"union/seed-0: {k}/{a}" for k in ("validate", "predict") for a in ("zero_shot", "control", "ltgc")),
            *(f"balance_mix/seed-0: {kind}/ltgc" for kind in ("train", "validate", "predict")),
            *(f"balance_mix/seed-0: {s}" for s in ("evaluate", "report")),
        ]
    )
    taken = folder / "runs/small/balance_mix/seed-0/train/control/manifest.json"
    assert json.loads(taken.read_text())["taken_from"] == str(folder / "runs/small/union/seed-0")


def test_the_table_is_printed_and_written_with_intervals(first: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert "| union | originals and generated as one set, balanced sampling, cross-entropy" in first.stdout
    assert "## Change against the control" in first.stdout
    assert first.stdout.startswith((folder / "runs/small/comparison.md").read_text())
    metrics = json.loads((folder / "runs/small/balance_mix/seed-0/evaluate/metrics.json").read_text())
    low, high = metrics["ltgc"]["minus_control"]["all"]
    assert low <= metrics["ltgc"]["all"] - metrics["control"]["all"] <= high
    page = (folder / "runs/small/comparison.html").read_text()
    assert "miniature" in page and "http:" not in page and "https:" not in page


def test_the_same_command_again_does_nothing_and_says_the_same(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    again = run(folder)
    assert (again.returncode, again.stderr, again.stdout) == (0, "", first.stdout)


def test_the_report_of_a_row_without_descriptions_says_so(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    page = (folder / "runs/small/union/seed-0/report/report.html").read_text()
    assert "No model wrote descriptions" in page and "A photo of the class coat." in page
