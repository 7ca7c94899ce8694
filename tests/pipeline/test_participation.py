"""Tasks of a cluster's job: they share a step without a launcher, come and go, and say when to try again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.errors import BackendError, RecipeError, TryAgain
from ltgc_local.pipeline.participation import Place, take_part
from ltgc_local.pipeline.preparation import Request, prepare
from ltgc_local.pipeline.scheduler import run_pipeline
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.leases import Leases
from ltgc_local.runs.lock import Holder
from tests.golden_runs import sums

MakeRecipe = Callable[..., Recipe]
SMALL = (
    "extend.source=template", "extend.max_descriptions=24", "describe.tail_below=20", "assess.enabled=false",
    "train.control=false", "leaks.enabled=false", "draw.shard_size=3", "draw.steps=1", "draw.size_px=32",
    "train.epochs=1", "train.lora_rank=2", "train.lora_blocks=1",
)  # fmt: skip


@pytest.fixture
def recipe(make_recipe: MakeRecipe) -> Recipe:
    return make_recipe(*SMALL)


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> RunDirectory:
    prepare(Request(recipe, tmp_path / "run", "c"), lambda line: None)
    return RunDirectory(tmp_path / "run")


def start(run: RunDirectory, step: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ltgc_local", "work", str(run.root), step]
    environment = {"PATH": "/usr/bin:/bin", **environment}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, Place(0, 1, 0, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Place(3, 4, 1, 3)),  # torchrun and accelerate
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0"}, Place(1, 2, 0, 1)),  # srun
        ({"SLURM_ARRAY_TASK_ID": "7"}, Place(0, 1, 0, 7)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, Place(1, 2, 0, 15)),
        ({"RANK": "x", "SLURM_PROCID": "-1"}, Place(0, 1, 0, 0)),
    ],
)
def test_a_task_knows_its_place_from_whoever_started_it(variables: dict[str, str], place: Place) -> None:
    assert Place.read(variables) == place


def test_a_step_whose_inputs_are_not_complete_is_tried_again_later(run: RunDirectory) -> None:
    with pytest.raises(TryAgain, match="step draw reads extend, which is not complete yet; try again later"):
        take_part(run.root, "draw", lambda line: None)
    with pytest.raises(RecipeError, match="no step is called 'drew'; steps: extend, draw"):
        take_part(run.root, "drew", lambda line: None)
    task = start(run, "draw")
    assert "try again later" in task.communicate()[1] and task.returncode == 75


@pytest.mark.slow
def test_tasks_without_a_launcher_make_what_one_launcher_makes(
    run: RunDirectory, recipe: Recipe, tmp_path: Path
) -> None:
    for step, tasks in (("extend", 2), ("draw", 3), ("generated", 2)):
        started = [start(run, step, SLURM_ARRAY_TASK_ID=str(number)) for number in range(tasks)]
        said = [task.communicate()[1] for task in started]
        assert [task.returncode for task in started] == [0] * tasks, said
        manifest = run.manifest(step)
        assert manifest is not None and manifest.items > 0, (step, said)
        assert not list(run.folder(step).rglob("*.lease"))
    logs = {path.name for path in (run.folder("draw") / "logs").glob("worker-*.log")}
    assert logs and logs <= {"worker-00.log", "worker-01.log", "worker-02.log"}  # one that came too late has none
    lines: list[str] = []
    take_part(run.root, "draw", lines.append)  # a round without work ends at once
    assert lines == ["draw: complete"]
    run_pipeline(Request(recipe, tmp_path / "local", "c", to_step="generated"), lambda line: None)
    assert sums(run.root) == sums(tmp_path / "local")


@pytest.mark.slow
def test_a_task_waits_for_the_chunks_of_others_and_makes_those_that_they_leave_behind(run: RunDirectory) -> None:
    take_part(run.root, "extend", lambda line: None)
    with Leases(run.folder("draw") / "chunks").hold("00001") as is_mine:
        assert is_mine  # as a task does that is then killed
        task = start(run, "draw")
        while run.chunk_plan("draw") is None or len(run.complete_chunks("draw")) < run.num_chunks("draw") - 1:
            assert task.poll() is None
            time.sleep(0.1)
        time.sleep(1)
        assert task.poll() is None and run.manifest("draw") is None
    assert task.wait(60) == 0 and run.manifest("draw") is not None


@pytest.mark.slow
@pytest.mark.parametrize("is_at_work", [False, True])
def test_a_signal_to_all_processes_of_a_task_asks_it_to_stop_in_good_order(run: RunDirectory, is_at_work: bool) -> None:
    """A cluster signals every process of a job step: the task, the server that forks its worker, and the worker."""
    take_part(run.root, "extend", lambda line: None)
    task = start(run, "draw")
    sign = "chunks/*.lease" if is_at_work else "logs"
    while not list(run.folder("draw").glob(sign)):
        assert task.poll() is None
        time.sleep(0.01)
    os.killpg(task.pid, signal.SIGUSR1)
    words = task.communicate()[1]
    assert task.returncode == 75 and "ended by" not in words, words
    assert not list(run.folder("draw").rglob("*.lease"))
    again = start(run, "draw")
    assert again.wait() == 0 and run.manifest("draw") is not None


@pytest.mark.slow
def test_two_tasks_train_together_if_as_many_are_started_as_the_recipe_says(
    tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(*SMALL, "train.control=true", "models.training_processes=2")
    run = RunDirectory(tmp_path / "run")
    prepare(Request(recipe, run.root, "c"), lambda line: None)
    with pytest.raises(BackendError, match=r"2 processes train together .* and 1 were started; start as many"):
        take_part(run.root, "train/control", lambda line: None)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29417", "SLURM_STEP_NUM_TASKS": "2"}
    tasks = [start(run, "train/control", SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **meeting) for rank in (0, 1)]
    said = [task.communicate()[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert run.manifest("train/control") is not None


def test_a_launcher_and_tasks_do_not_work_in_one_run_at_a_time_but_tasks_do(run: RunDirectory) -> None:
    with run.locked(), pytest.raises(TryAgain, match=f"process {Holder.me().pid} on .* runs here"):
        take_part(run.root, "extend", lambda line: None)
    with run.shared(), run.shared():
        with pytest.raises(TryAgain, match="runs here"), run.locked():
            pass
        take_part(run.root, "extend", lambda line: None)
    assert run.manifest("extend") is not None and not list(run.root.glob(".lock-*"))
