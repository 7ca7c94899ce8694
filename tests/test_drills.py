"""The drills in small: a run is killed twenty times, made by tasks that are killed, and damaged and repaired."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.drills.kills import Drill, make_reference
from tests.drills.repairs import drill as repair_drill
from tests.drills.tasks import TaskDrill

RECIPE = "tgn_quickstart"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    return make_reference(RECIPE, tmp_path_factory.mktemp("reference") / "run")


def test_twenty_kills_and_two_races_change_nothing_double_nothing_and_leave_nothing(
    reference: Path, tmp_path: Path
) -> None:
    drill = Drill(RECIPE, reference, tmp_path, seed=0, mean_s=6.0)
    drill.race(2)
    tally = drill.kill(2 + 20, (signal.SIGKILL, signal.SIGTERM))
    assert tally.wrong == []
    assert tally.complete >= 2 and sum(tally.kills.values()) == 2 + 20


def test_tasks_that_come_and_go_make_the_same_run(reference: Path, tmp_path: Path) -> None:
    tally = TaskDrill(RECIPE, reference, tmp_path / "run", seed=0, mean_s=6.0).run(tasks=2, kills=10)
    assert tally.wrong == []
    assert sum(tally.kills.values()) > 3


def test_random_damage_is_named_and_repaired_by_the_command_of_its_message(reference: Path) -> None:
    done = repair_drill(reference, 12, seed=0, at_once=4)
    assert len(done) == 12 and [damage for damage in done if damage.wrong] == []
