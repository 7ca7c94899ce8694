"""A third method is a folder and a line: one that only guesses runs, reports and compares like the two papers'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.extended import copy_with_method

METHOD = '''
"""A method that generates nothing: it gives every test image the most frequent class."""

from __future__ import annotations

from typing import Literal

from ltgc_local.comparison.method_comparison import MethodComparison
from ltgc_local.methods.base import Method, StageSpec, Step, report_on
from ltgc_local.recipe import Recipe, variant
from ltgc_local.reporting.method_report import MethodReport


@variant("guess")
class GuessRecipe(Recipe):
    """Guess the most frequent class."""

    method: Literal["guess"] = "guess"
    confidence: float = 0.5
    """What the guess is worth."""


def plan(recipe: GuessRecipe) -> tuple[Step, ...]:
    count = Step("count", StageSpec("guess.stages:CountStage"))
    inputs = {"counts": (count,)}
    guess = Step("evaluate", StageSpec("guess.stages:GuessStage"), inputs, None, ("confidence",), arm="guess")
    return count, guess, report_on(guess)


class GuessReport(MethodReport[GuessRecipe]):
    name = "guess"


class GuessComparison(MethodComparison):
    name = "guess"


METHOD = Method("guess", plan, lambda corpus, recipe: [], lambda corpus, recipe: {}, GuessReport(), GuessComparison())
'''
STAGES = """
from __future__ import annotations

import torch

from ltgc_local.evaluation.figures import list_classes, measure_predictions
from ltgc_local.evaluation.predictions import Predictions
from ltgc_local.methods.stage import WholeStage
from ltgc_local.runs.files import Json, Table


class CountStage(WholeStage):
    def make(self):
        return [Json("counts", {"counts": list(self.corpus.class_counts().values())})]


class GuessStage(WholeStage):
    def make(self):
        counts = self.run.value(self.input("counts"), "counts")["counts"]
        logits = torch.zeros(len(self.corpus.test), len(counts))
        logits[:, counts.index(max(counts))] = self.recipe.confidence
        predictions = Predictions(len(logits))
        predictions.add(self.step.arm, slice(None), logits)
        metrics = measure_predictions(predictions, self.corpus, self.resampling, "guess")
        columns = Table("predictions", predictions.columns(self.corpus.test.keys, self.corpus.test.labels))
        return [Json("metrics", metrics), Json("classes", list_classes(self.corpus)), columns]
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one more folder and one more line."""
    root = tmp_path_factory.mktemp("extended")
    copy_with_method(root, "guess", METHOD, STAGES)
    return root


def call(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "ltgc_local", *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_it_runs_and_its_figures_are_reported_and_compared(extended: Path) -> None:
    ran = call(extended, "run", "guess.yaml")
    assert ran.returncode == 0, ran.stderr
    metrics = json.loads((extended / "runs/guess/evaluate/metrics.json").read_text())
    assert metrics["guess"]["all"] == 10.0  # of ten classes with as many test images each
    assert "guess" in (extended / "runs/guess/report/report.html").read_text()
    again = call(extended, "run", "guess.yaml", "--seeds", "2")
    assert again.returncode == 0, again.stderr
    compared = call(extended, "compare", "runs")
    assert compared.returncode == 0 and "guess" in compared.stdout, compared.stderr
    status = call(extended, "status", "runs/guess")
    assert status.returncode == 0 and status.stdout.count("complete") >= 3, status.stdout


def test_its_recipe_is_checked_like_the_others(extended: Path) -> None:
    wrong = call(extended, "validate", "guess.yaml", "--set", "confidnce=2")
    assert wrong.returncode == 2 and "did you mean 'confidence'?" in wrong.stderr
    unknown = call(extended, "validate", "guess.yaml", "--set", "method=gues")
    assert unknown.returncode == 2 and "'guess'" in unknown.stderr
    others = call(extended, "validate", "guess.yaml", "--set", "train.lr=0.1")
    assert others.returncode == 2 and "method guess does not use it" in others.stderr


def test_its_runs_are_read_from_python(extended: Path) -> None:
    call(extended, "run", "guess.yaml")
    code = "import ltgc_local; print(ltgc_local.open_run('runs/guess').recipe.confidence)"
    read = subprocess.run(
        [sys.executable, "-c", code], cwd=extended, env=os.environ | {"PYTHONPATH": str(extended)}, capture_output=True
    )
    assert read.stdout.strip() == b"0.5", read.stderr
