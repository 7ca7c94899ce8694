"""Runs that differ in the seed of their training: which seeds a line names, and over what its interval is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from ltgc_local.comparison import compare_runs, write_comparison
from ltgc_local.comparison.aggregate import Line
from ltgc_local.comparison.table import join_seeds
from ltgc_local.methods.registry import COMPARISONS
from tests.comparison.conftest import WriteRun

ZERO_SHOT, ASKED = (10, 10, 10), (9, 9, 9)


def write_grid(write_run: WriteRun, few: dict[tuple[int, int], int], control: dict[int, int]) -> Path:
    """Write a run for each (seed, train_seed), with so many of 20 images of the rare class right."""
    for (seed, train_seed), number in few.items():
        arms = {"zero_shot": ZERO_SHOT, "vlm_zero_shot": ASKED, "control": (15, 13, control[train_seed])}
        root = write_run(
            f"r/seed-{seed}-train-{train_seed}", arms | {"ltgc": (15, 13, number)},
            f"seed={seed}", f"train_seed={train_seed}",
        )  # fmt: skip
    return root.parent


def lines_of(folder: Path) -> tuple[dict[str, Line], Line]:
    (benchmark,) = compare_runs([folder], COMPARISONS).benchmarks
    (change,) = benchmark.changes
    return {line.arm: line for line in benchmark.lines}, change


def test_of_one_drawing_the_interval_is_over_the_trainings(write_run: WriteRun) -> None:
    lines, change = lines_of(write_grid(write_run, {(0, 1): 14, (0, 2): 16}, {1: 4, 2: 8}))
    assert [(arm, line.seeds, line.train_seeds) for arm, line in lines.items()] == [
        ("zero_shot", (), ()),
        ("vlm_zero_shot", (0,), ()),  # nothing is trained
        ("control", (), (1, 2)),  # nothing is generated
        ("ltgc", (0,), (1, 2)),
    ]
    few = lines["ltgc"].cells["few"]
    assert (few.value, few.sd) == (75, pytest.approx(7.0711, abs=1e-4))
    assert (lines["control"].cells["few"].value, lines["vlm_zero_shot"].cells["few"].sd) == (30, None)
    assert lines["vlm_zero_shot"].cells["few"].interval is not None  # bootstrapped, not over two equal figures
    assert (change.seeds, change.train_seeds, change.cells["few"].value) == ((0,), (1, 2), 45)


def test_where_both_seeds_vary_the_interval_is_over_the_drawings(write_run: WriteRun) -> None:
    # Few: 50 and 70 %, 70 and 90 %. Means of the drawings 60 and 80: mean 70, sd 14.142. All four together: sd 16.3.
    few = {(0, 0): 10, (0, 1): 14, (1, 0): 14, (1, 1): 18}
    lines, change = lines_of(write_grid(write_run, few, {0: 4, 1: 8}))
    cell = lines["ltgc"].cells["few"]
    assert (lines["ltgc"].seeds, lines["ltgc"].train_seeds) == ((0, 1), (0, 1))
    assert (cell.value, cell.sd) == (70, pytest.approx(14.1421, abs=1e-4))
    # The control is the same beside either drawing: 20 and 40 %, each once.
    control = lines["control"].cells["few"]
    assert (lines["control"].seeds, lines["control"].train_seeds) == ((), (0, 1))
    assert (control.value, control.sd) == (30, pytest.approx(14.1421, abs=1e-4))
    # 30 and 30 points; 50 and 50.
    assert (change.cells["few"].value, change.cells["few"].sd) == (40, pytest.approx(14.1421, abs=1e-4))


def test_drawings_that_share_one_training_seed_share_one_control(write_run: WriteRun) -> None:
    lines, _ = lines_of(write_grid(write_run, {(0, 7): 10, (1, 7): 14}, {7: 4}))
    assert (lines["ltgc"].seeds, lines["ltgc"].train_seeds) == ((0, 1), (7,))
    assert lines["ltgc"].cells["few"].sd == pytest.approx(14.1421, abs=1e-4)
    assert (lines["control"].train_seeds, lines["control"].cells["few"].sd) == ((7,), None)


def test_a_training_seed_that_is_the_runs_own_is_no_other_seed(write_run: WriteRun) -> None:
    lines, _ = lines_of(write_grid(write_run, {(0, 0): 10, (1, 1): 14}, {0: 4, 1: 8}))
    assert [(line.seeds, line.train_seeds) for line in (lines["control"], lines["ltgc"])] == [((0, 1), ())] * 2


def test_tables_say_which_seed_varies(write_run: WriteRun, table: Path) -> None:
    folder = write_grid(write_run, {(0, 1): 14, (0, 2): 16}, {1: 4, 2: 8})
    compared = compare_runs([folder], COMPARISONS)
    text = write_comparison(compared, "markdown")
    assert "| generation 0; training 1, 2 |" in text and "| training 1, 2 |" in text
    note = "says nothing about another drawing"
    assert note in text and note not in write_comparison(compare_runs([table], COMPARISONS), "markdown")
    rows = csv.DictReader(io.StringIO(write_comparison(compared, "csv")))
    (few,) = [r for r in rows if (r["arm"], r["measure"], r["group"]) == ("ltgc", "accuracy", "few")]
    assert (few["seeds"], few["train_seeds"]) == ("0", "1 2")


@pytest.mark.parametrize(
    ("seeds", "train_seeds", "text"),
    [((), (), "any"), ((0, 1), (), "0, 1"), ((), (3,), "training 3"), ((0,), (3, 4), "generation 0; training 3, 4")],
)
def test_seeds_in_words(seeds: tuple[int, ...], train_seeds: tuple[int, ...], text: str) -> None:
    assert join_seeds(seeds, train_seeds) == text
