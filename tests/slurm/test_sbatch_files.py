"""A plan and a profile become a chain of jobs, and readable sbatch files, whose logic is run by a real bash."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.errors import RecipeError
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe
from ltgc_local.slurm.chain import PREPARE, Job, build_chain, split_tasks
from ltgc_local.slurm.profile import Environment, GpuJobs, Limits, Profile, TrainingJobs
from ltgc_local.slurm.render import Site, render_chain
from tests.slurm.example import FOLDER, render_example

PROFILE = Profile(gpu=GpuJobs(workers=6), training=TrainingJobs(per_node=2), limits=Limits(max_array_size=4))
MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def chain(make_recipe: MakeRecipe) -> dict[str, Job]:
    steps = build_plan(make_recipe())
    jobs = build_chain(steps, PROFILE, on_cpu=False, training_processes=4, gpus_of={"vlm": 2})
    return {job.name: job for job in jobs}


def test_the_example_is_what_is_rendered() -> None:
    """To render it again, type: python -m tests.slurm.example."""
    shown = {path.name: path.read_text() for path in (FOLDER / "imagenet_lt").iterdir()}
    assert shown == render_example()


def test_a_step_becomes_a_job_of_its_kind(chain: dict[str, Job]) -> None:
    draw, train = chain["draw"], chain["train/ltgc"]
    assert (draw.kind, draw.tasks, draw.arrays, draw.gpus) == ("gpu", 6, (4, 2), 1)
    assert chain["describe"].gpus == 2  # a copy of this model needs two
    assert (train.kind, train.tasks, train.nodes, train.per_node, train.gpus) == ("training", None, 2, 2, 2)
    assert (chain["generated"].kind, chain["generated"].tasks, chain["generated"].gpus) == ("cpu", 4, 0)
    assert (chain["report"].kind, chain["report"].tasks) == ("cpu", None)
    assert (chain["predict/ltgc"].kind, chain["predict/ltgc"].gpus) == ("gpu", 1)
    assert (chain["evaluate"].kind, chain["evaluate"].gpus) == ("cpu", 0)
    assert chain["assess/0/detect"].file == "05-assess-0-detect.sbatch"


def test_a_job_waits_for_the_steps_that_it_reads_but_not_twice_over(chain: dict[str, Job]) -> None:
    assert chain["describe"].after == chain["train/control"].after == (PREPARE,)
    assert chain["assess/0/detect"].after == ("draw", "assess/template")
    assert chain["report"].after == ("leaks/compare", "evaluate")


def test_on_cpus_everything_is_a_cpu_job(make_recipe: MakeRecipe) -> None:
    jobs = build_chain(build_plan(make_recipe()), PROFILE, on_cpu=True)
    assert {job.kind for job in jobs} == {"cpu"} and not any(job.gpus for job in jobs)


def test_networks_of_tgn_need_a_gpu_though_no_card_names_them(make_recipe: MakeRecipe) -> None:
    from ltgc_local.recipe import load_recipe

    recipe = load_recipe(FOLDER.parent / "tgn_dior.yaml", check_files=False)
    kinds = {job.name: job.kind for job in build_chain(build_plan(recipe), PROFILE, on_cpu=False)}
    assert kinds["kmdn/head"] == "training" and kinds["generated"] == kinds["predict/tgn"] == "gpu"
    assert kinds["classes"] == kinds["merge"] == kinds["evaluate"] == kinds["report"] == "cpu"


def test_arrays_are_split_at_the_clusters_limit() -> None:
    assert split_tasks(4, 4) == (4,) and split_tasks(9, 4) == (4, 4, 1) and split_tasks(1, 1001) == (1,)


def test_a_chain_shrinks_until_it_may_be_submitted(make_recipe: MakeRecipe) -> None:
    steps = build_plan(make_recipe())
    profile = PROFILE.model_copy(update={"limits": Limits(max_jobs=50)})
    jobs = build_chain(steps, profile, on_cpu=False)
    assert sum(job.tasks or 1 for job in jobs) <= 50 and max(job.tasks or 1 for job in jobs) == 2
    with pytest.raises(RecipeError, match=r"the chain has 26 jobs, and limits\.max_jobs of the site profile is 10"):
        build_chain(steps, profile.model_copy(update={"limits": Limits(max_jobs=10)}), on_cpu=False)


def test_processes_that_nodes_cannot_share_evenly_are_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match="5 processes of train/control cannot be shared evenly by 3 nodes of 2"):
        build_chain(build_plan(make_recipe()), PROFILE, on_cpu=False, training_processes=5)


@pytest.mark.parametrize("name", ["a b", "it's", "$HOME;x", "ümlaut"])
def test_every_file_is_bash_whatever_the_run_is_called(make_recipe: MakeRecipe, name: str) -> None:
    recipe = make_recipe()
    jobs = build_chain(build_plan(recipe), PROFILE, on_cpu=False, training_processes=4)
    texts = render_chain(jobs, Site(PROFILE, Path("/runs", name), "plain"))
    assert len(texts) == len(jobs) + 1
    for text in texts.values():
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        head, _, body = text.partition("\n\n")
        assert all(line.startswith("#") for line in head.splitlines()) or "submit" in text
        assert "#SBATCH" not in body  # SLURM reads none after the first command


@pytest.mark.parametrize("name", ["100%", 'a"b', "a\nb", "a\\b"])
def test_a_folder_that_sbatch_cannot_name_is_refused(make_recipe: MakeRecipe, name: str) -> None:
    jobs = build_chain(build_plan(make_recipe()), PROFILE, on_cpu=False)
    with pytest.raises(RecipeError, match="sbatch files cannot name this folder"):
        render_chain(jobs, Site(PROFILE, Path("/runs", name), "plain"))


class Script:
    """The sbatch file of the step draw, with programs of the test's own in place of ltgc-local and scontrol."""

    def __init__(self, folder: Path, recipe: Recipe, program: str, *, signal_s: int = 180) -> None:
        self.folder = folder
        environment = Environment(program=str(folder / "program"), scratch=str(folder))
        limits = Limits(inputs_wait_s=10, stagger_s=0, signal_s=signal_s)
        profile = Profile(environment=environment, limits=limits)
        jobs = build_chain(build_plan(recipe), profile, on_cpu=True)
        texts = render_chain(jobs, Site(profile, folder / "run", "plain"))
        (folder / "draw.sbatch").write_text(texts["03-draw.sbatch"].replace("sleep 10", "sleep 1"))
        for name, text in {"program": program, "scontrol": f'echo "$@" >> {folder}/requeued'}.items():
            (folder / name).write_text(f"#!/bin/bash\n{text}\n")
            (folder / name).chmod(0o755)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        variables = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", **environment}
        variables["PATH"] = f"{self.folder}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", "draw.sbatch"], cwd=self.folder, env=os.environ | variables, stdout=subprocess.PIPE, text=True
        )

    @property
    def requeued(self) -> str:
        path = self.folder / "requeued"
        return path.read_text().strip() if path.exists() else ""


#: A worker that gives back what it has in hand when it is asked to, as ours does.
WORKER = "trap 'exit 75' USR1; touch ready; for i in $(seq 600); do sleep 0.1; done"


def interrupt(script: Script, number: signal.Signals, **environment: str) -> tuple[int, str]:
    job = script.start(**environment)
    while not (script.folder / "ready").exists():
        time.sleep(0.02)
    job.send_signal(number)
    output, _ = job.communicate(timeout=20)
    return job.returncode, output


def test_before_the_time_limit_the_task_goes_back_into_the_queue(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    script = Script(tmp_path, make_recipe(), WORKER)
    code, output = interrupt(script, signal.SIGUSR1)
    assert code == 75 and "draw: ended with exit code 75 after SIGUSR1" in output
    assert script.requeued == "requeue 7_3"  # not SLURM_JOB_ID, which is another task's


def test_a_task_is_not_requeued_for_ever(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    script = Script(tmp_path, make_recipe(), WORKER)
    assert interrupt(script, signal.SIGUSR1, SLURM_RESTART_COUNT="20")[0] == 75
    assert script.requeued == ""


def test_a_cancelled_task_stays_cancelled(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    script = Script(tmp_path, make_recipe(), WORKER)
    code, output = interrupt(script, signal.SIGTERM)
    assert code == 75 and "after SIGTERM" in output and script.requeued == ""


def test_a_task_whose_worker_was_killed_is_requeued_a_few_times(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    script = Script(tmp_path, make_recipe(), "kill -KILL $$")
    assert script.start(SLURM_RESTART_COUNT="2").wait(20) == 137 and script.requeued == "requeue 7_3"
    (tmp_path / "requeued").unlink()
    assert script.start(SLURM_RESTART_COUNT="3").wait(20) == 137 and script.requeued == ""


@pytest.mark.parametrize("code", [0, 3, 5])
def test_a_task_that_is_done_or_needs_mending_is_not_requeued(
    tmp_path: Path, make_recipe: MakeRecipe, code: int
) -> None:
    script = Script(tmp_path, make_recipe(), f"exit {code}")
    assert script.start().wait(20) == code and script.requeued == ""


def test_files_that_a_network_shows_late_are_waited_for(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    script = Script(tmp_path, make_recipe(), "[ -e tried ] && exit 0; touch tried; exit 75")
    assert script.start().wait(20) == 0
    late = Script(tmp_path, make_recipe(), "exit 75")
    assert late.start().wait(20) == 75 and late.requeued == ""


def test_a_step_that_is_complete_starts_nothing(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    script = Script(tmp_path, make_recipe(), "touch started")
    (tmp_path / "run/draw").mkdir(parents=True)
    (tmp_path / "run/draw/manifest.json").touch()
    assert script.start().wait(20) == 0 and not (tmp_path / "started").exists()


def test_a_job_leaves_nothing_on_the_node(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    script = Script(tmp_path, make_recipe(), 'mkdir -p "$TRITON_CACHE_DIR"')
    assert script.start().wait(20) == 0 and list(tmp_path.glob("ltgc-local.*")) == []
