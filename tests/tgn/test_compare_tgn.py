"""TGN's runs compared with each other and with one of LTGC on the same data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ltgc_local.comparison import compare_runs, write_comparison
from ltgc_local.comparison.compare import Comparison
from ltgc_local.comparison.table import Table
from ltgc_local.methods.registry import COMPARISONS
from ltgc_local.runs.provenance import read_settings, write_run_recipe
from ltgc_local.runs.sealed import write_sealed
from tests.reporting.conftest import ACCURACY
from tests.reporting.run_on_disk import RunWriter, make_metrics, make_recipe, shipped_corpus
from tests.tgn.conftest import TgnRun


def copy_run(run: TgnRun, root: Path, **changes: object) -> Path:
    """Copy a run under another seed, or with another r."""
    shutil.copytree(run.run.root, root)
    recipe = read_settings(root)
    for path, value in changes.items():
        block, _, key = path.partition("__")
        if key:
            recipe[block][key] = value
        else:
            recipe[block] = value
    write_sealed(root / "recipe.json", recipe)
    return root


def table_of(comparison: Comparison, kind: str) -> Table:
    (found,) = [g for b in comparison.benchmarks for g in b.tables if g.kind == kind]
    return found


def test_one_seed_has_head_tail_and_f1_with_intervals_of_the_images(finished: TgnRun, tmp_path: Path) -> None:
    comparison = compare_runs([copy_run(finished, tmp_path / "a")], COMPARISONS, resamples=200)
    accuracy = table_of(comparison, "accuracy")
    assert accuracy.heading[-3:] == ("head", "tail", "macro F1")
    titles = [row[1] for row in accuracy.rows]
    assert titles == ["test_resnet on originals alone", "test_resnet on originals and generated, r 0.05"]
    metrics = finished.run.value("evaluate", "metrics")
    tail = accuracy.rows[1][accuracy.heading.index("tail")]
    assert not isinstance(tail, str) and tail.value == metrics["tgn"]["tail"]
    assert tail.interval is not None and tail.interval[0] < tail.value < tail.interval[1]
    change = table_of(comparison, "change")
    assert change.heading == ("row", "seeds", "all", "many", "medium", "few", "head", "tail")
    cell = change.rows[0][-1]
    assert not isinstance(cell, str)
    assert cell.value == pytest.approx(metrics["tgn"]["tail"] - metrics["control"]["tail"])
    kinds = [g.kind for b in comparison.benchmarks for g in b.tables]
    assert kinds == ["accuracy", "change", "rivals", "networks", "images"]  # none of LTGC's tables
    networks, measured = table_of(comparison, "networks"), finished.run.value("evaluate", "networks")
    f1 = networks.rows[0][networks.heading.index("tail distilled: macro F1")]
    assert not isinstance(f1, str) and f1.value == measured["tail"]["distilled"]["macro_f1"]
    images, summary = table_of(comparison, "images"), finished.run.value("measure", "measures")["summary"]
    distance = images.rows[0][images.heading.index("kernel distance x 1000")]
    assert not isinstance(distance, str) and distance.value == pytest.approx(1000 * summary["kernel_distance"])


def test_seeds_are_aggregated_and_rows_named_by_what_tells_them_apart(finished: TgnRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        copy_run(finished, tmp_path / f"a/seed-{seed}", seed=seed)
    copy_run(finished, tmp_path / "b", cdtg__r=0.5)
    comparison = compare_runs([tmp_path], COMPARISONS, resamples=200)
    accuracy = table_of(comparison, "accuracy")
    labels = {row[0]: row[2] for row in accuracy.rows if str(row[0]).startswith("tgn")}
    assert labels == {"tgn_quickstart (cdtg.r=0.05)": "0, 1", "tgn_quickstart (cdtg.r=0.5)": "0"}
    assert any("r 0.5" in str(row[1]) for row in accuracy.rows)


@pytest.mark.parametrize("kind", ["markdown", "csv", "latex", "html"])
def test_both_methods_stand_in_one_table(finished: TgnRun, tmp_path: Path, kind: str) -> None:
    copy_run(finished, tmp_path / "tgn")
    recipe, corpus = make_recipe(), shipped_corpus()
    writer = RunWriter(tmp_path / "ltgc", recipe, corpus)
    writer.write_all(make_metrics(corpus, ACCURACY))
    write_run_recipe(tmp_path / "ltgc", recipe)
    text = write_comparison(compare_runs([tmp_path], COMPARISONS, resamples=200), kind)
    for words in ("BalanceMix", "originals and generated, r 0.05", "LoRA on originals alone"):
        assert words in text
    if kind == "csv":
        assert any(",tgn,,,minus_control,tail," in line for line in text.splitlines())
        assert any(",ltgc,,,minus_control,all," in line for line in text.splitlines())
