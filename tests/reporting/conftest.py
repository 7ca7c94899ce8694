from pathlib import Path

import pytest

from ltgc_local.datasets import Corpus
from ltgc_local.methods.registry import method_of
from ltgc_local.recipe import Recipe
from ltgc_local.reporting import Report, gather
from ltgc_local.runs.directory import RunDirectory
from tests.reporting.run_on_disk import RunWriter, make_metrics, make_recipe, report_reads, shipped_corpus

ACCURACY = {
    "zero_shot": {"all": 55.2, "many": 58.1, "medium": 53.0, "few": 50.7},
    "control": {"all": 75.5, "many": 82.6, "medium": 69.5, "few": 66.9},
    "ltgc": {"all": 81.7, "many": 79.2, "medium": 81.2, "few": 88.6},
}


def gather_run(run: RunDirectory, recipe: Recipe, corpus: Corpus) -> Report:
    """Gather a run's report as its last step does."""
    method = method_of(recipe)
    return gather(run, recipe, corpus, report_reads(recipe), method.report, method.tail(corpus, recipe))


def write_and_gather(
    root: Path, recipe: Recipe, corpus: Corpus, arms: tuple[str, ...] = tuple(ACCURACY), accept_rate: float = 0.7
) -> Report:
    """Write a run of the recipe with ``ACCURACY`` and gather its report."""
    metrics = make_metrics(corpus, {arm: ACCURACY[arm] for arm in arms})
    run: RunDirectory = RunWriter(root, recipe, corpus, accept_rate).write_all(metrics)
    return gather_run(run, recipe, corpus)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a small run on the shipped images; coat (10 images) and dress (17) are the tail."""
    return write_and_gather(tmp_path_factory.mktemp("run"), make_recipe(), shipped_corpus())
