"""Rows against their rivals at the same accuracy on frequent classes: one seed, several, and several trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltgc_local.comparison import compare_runs
from ltgc_local.comparison.table import Cell, Table
from ltgc_local.methods.registry import COMPARISONS
from tests.comparison.conftest import WriteRun

ARMS = {"zero_shot": (10, 10, 10), "control": (17, 13, 8), "ltgc": (17, 13, 12)}


def rivals(points: float, least: float, few: float) -> dict[str, Any]:
    """Return ``evaluate/rivals.json`` with one rival that the curves reach, and one that they do not."""
    groups = {"all": 60.0, "few": few, "many": 85.0}
    equal = {"tau": 0.1, "one": groups, "other": {"all": 57.0, "few": 40.0, "many": 84.0}}
    interval = {"all": [1.0, 5.0], "few": [2.0, 9.0], "many": [-1.0, 1.0]}
    lead = {"points": points, "interval": [points - 1, points + 2], "least": least, "between": [50.0, 80.0]}
    versus = {
        "control": {"curve": lead, "at_equal": equal | {"interval": interval}},
        "zero_shot": {"curve": None, "at_equal": None},
    }
    return {"sides": {"rare": "few", "frequent": "many"}, "taus": [0.0], "curves": {}, "tuned": {}, "versus": versus}


def the_table(folder: Path) -> Table:
    (benchmark,) = compare_runs([folder], COMPARISONS).benchmarks
    (table,) = [each for each in benchmark.tables if each.kind == "rivals"]
    assert "few, lead by curves" in table.heading and "few at equal many" in table.heading
    return table


def test_one_run_has_the_intervals_that_it_measured(write_run: WriteRun) -> None:
    folder = write_run("run", ARMS, rivals=rivals(6.0, 2.0, few=46.0))
    against_control, against_zero_shot = the_table(folder).rows
    assert against_control[3:] == (
        Cell(6.0, (5.0, 8.0), None, True),
        Cell(2.0, is_difference=True),
        Cell(6.0, (2.0, 9.0), None, True),
        Cell(3.0, (1.0, 5.0), None, True),
        Cell(1.0, (-1.0, 1.0), None, True),
    )
    assert against_zero_shot[1] == "CLIP zero-shot" and all(cell.value is None for cell in against_zero_shot[3:])


def test_seeds_have_a_mean_an_interval_over_them_and_the_least_of_all(write_run: WriteRun, tmp_path: Path) -> None:
    for seed, points, least, few in ((0, 6.0, 2.0, 46.0), (1, 8.0, -1.0, 50.0), (2, 10.0, 3.0, 54.0)):
        write_run(f"t/row/seed-{seed}", ARMS, f"seed={seed}", rivals=rivals(points, least, few))
    line = the_table(tmp_path / "t").rows[0]
    # Student's t with 2 degrees of freedom, 97.5 %: 4.303 x 2 / sqrt(3) = 4.97
    assert line[2] == "0, 1, 2"
    assert isinstance(line[3], Cell) and (line[3].value, line[3].sd) == (8.0, 2.0)
    assert line[3].interval == pytest.approx((8 - 4.968, 8 + 4.968), abs=1e-3)
    assert line[4] == Cell(-1.0, is_difference=True)
    assert isinstance(line[5], Cell) and line[5].value == 10.0


def test_trainings_of_one_drawing_are_averaged(write_run: WriteRun, tmp_path: Path) -> None:
    for seed, train_seed, points in ((0, 0, 4.0), (0, 1, 6.0), (1, 0, 9.0), (1, 1, 11.0)):
        options = (f"seed={seed}", f"train_seed={train_seed}")
        write_run(f"t/row/{seed}-{train_seed}", ARMS, *options, rivals=rivals(points, 1.0, 46.0))
    line = the_table(tmp_path / "t").rows[0]
    assert line[2] == "generation 0, 1; training 0, 1"
    assert isinstance(line[3], Cell) and line[3].value == 7.5
    assert line[3].sd == pytest.approx(3.5355, abs=1e-4)  # of 5 and 10


def test_runs_without_rivals_have_no_such_table(write_run: WriteRun) -> None:
    (benchmark,) = compare_runs([write_run("run", ARMS)], COMPARISONS).benchmarks
    assert "rivals" not in {table.kind for table in benchmark.tables}
