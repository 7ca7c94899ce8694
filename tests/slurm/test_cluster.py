"""The quickstart, made small, on a real SLURM cluster in both ways, with all that clusters do to jobs on the way.

Needs a cluster: ``.ci/slurm`` starts one, or ``tests/slurm/cluster.sh start FOLDER``. The results are compared byte for
byte with a local run. ``QUICKSTART=whole .ci/slurm`` runs the quickstart as it is.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.runs.directory import RunDirectory
from ltgc_local.slurm.commands import ask, call
from ltgc_local.slurm.queue import QueuedJob, parse_number, read_queue
from ltgc_local.slurm.records import read_sent
from ltgc_local.slurm.view import find_failed, find_logs
from tests.golden_runs import ROOT, SMALL, command, sums

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
PROGRAM = Path(sys.executable).with_name("ltgc-local")
SITE = f"""\
name: loopback
cpu:
  partition: debug
  time: 00:30:00
  cpus: 1
  memory: 1500M
  workers: 2
training:
  per_node: 1
environment:
  program: {PROGRAM}
  scratch: /tmp
  variables:
    GLOO_SOCKET_IFNAME: lo
limits:
  max_array_size: 4
  signal_s: 60
  inputs_wait_s: 30
  stagger_s: 1
"""
PATIENCE_S = 900.0
IS_SMALL = os.environ.get("QUICKSTART") != "whole"
#: Smaller still than the golden run: with one tower per arm.
SETTINGS = (*SMALL["quickstart"], "ensemble=null") if IS_SMALL else ()
CONTROL, LTGC = ("train/control", "train/ltgc") if IS_SMALL else ("train/control_1", "train/ltgc_1")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    """Skip where no cluster answers."""
    if ask(["sinfo", "--noheader"]) is None:
        pytest.skip("no SLURM cluster answers; .ci/slurm starts one, or tests/slurm/cluster.sh")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The sums of a run without SLURM."""
    run = tmp_path_factory.mktemp("local") / "run"
    subprocess.run(words_of(run, "-q"), check=True, env=os.environ)
    return sums(run)


def words_of(run: Path, *more: str) -> list[str]:
    """Return the command that runs it on one machine, or in one allocation."""
    sets = [word for key in SETTINGS for word in ("--set", key)]
    return command("quickstart", run, *sets, *more, small=False)


def wait_until(is_so: Callable[[], object], what: str) -> None:
    due = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < due, f"waited in vain until {what}\n{ask(['squeue', '--array'])}"
        time.sleep(0.3)


def ltgc(*words: str) -> str:
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def jobs_of(run: Path, step: str) -> list[QueuedJob]:
    return list(read_queue(job.id for job in read_sent(run) if job.name == step))


def running(run: Path, step: str) -> list[QueuedJob]:
    return [job for job in jobs_of(run, step) if job.state == "RUNNING"]


def is_in_work(run: Path, step: str) -> bool:
    """Return whether a worker holds a chunk of a step."""
    return any((run / step / "chunks").glob("*.lease"))


def wait_for_the_end(run: Path) -> None:
    def is_over() -> bool:
        queued = read_queue(job.id for job in read_sent(run))
        if any(job.is_held_by_a_node for job in queued):  # as one may be that was to start while its node went down
            ltgc("slurm", "submit", str(run))
        return not queued

    wait_until(is_over, "the queue is empty")


def render(run: Path, folder: Path, *more: str) -> None:
    (folder / "site.yaml").write_text(SITE)
    sets = [word for key in (*SETTINGS, *more) for word in ("--set", key)]
    profile = ["--profile", str(folder / "site.yaml")]
    ltgc("slurm", "render", str(ROOT / "recipes/quickstart.yaml"), *sets, "--out", str(run), *profile)


def test_a_chain_of_jobs_gives_the_same_bytes_whatever_happens_to_its_jobs(
    tmp_path: Path, local: dict[str, str]
) -> None:
    run = tmp_path / "a run"
    render(run, tmp_path)
    ltgc("slurm", "submit", str(run))
    assert "every step is complete or has a job in the queue" in ltgc("slurm", "submit", str(run))

    # A training is requeued.
    wait_until(lambda: is_in_work(run, CONTROL), "the control trains")
    call(["scontrol", "requeue", running(run, CONTROL)[0].full_id])

    # One task is killed, and the array resized in the middle: from two tasks to six, which are two arrays more.
    wait_until(lambda: is_in_work(run, "draw") and running(run, "draw"), "a task draws")
    call(["scancel", "--signal=KILL", running(run, "draw")[0].full_id])
    assert "more tasks, now 6" in ltgc("slurm", "resize", str(run), "draw", "6")
    status = json.loads(ltgc("status", str(run), "--json"))["steps"]
    assert "running on n" in status["draw"]["slurm"] and "waiting (Dependency)" in status["report"]["slurm"]

    # One node is set down, and up again.
    wait_until(lambda: is_in_work(run, "assess/0/redraw"), "images are drawn again")
    call(["scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test"])
    wait_until(lambda: not [job for step in status for job in running(run, step) if job.nodes == "n2"], "n2 is empty")
    ask(["scontrol", "update", "NodeName=n2", "State=RESUME"])

    # A training is told that its time is nearly over, and requeues itself.
    wait_until(lambda: is_in_work(run, LTGC), "LTGC trains")
    call(["scancel", "--batch", "--signal=USR1", running(run, LTGC)[0].full_id])

    wait_for_the_end(run)
    assert "back into the queue" in "".join(log.path.read_text() for log in find_logs(run) if log.name == LTGC)
    assert {log.name for log in find_failed(run)} <= {"draw"}, [*map(str, find_failed(run))]  # the task that was killed
    assert sums(run) == local


def test_one_allocation_spreads_its_steps_over_its_nodes_and_its_job_requeues_itself(
    tmp_path: Path, local: dict[str, str]
) -> None:
    run, log = tmp_path / "run", tmp_path / "job.log"
    words = words_of(run)
    (tmp_path / "job.sbatch").write_text(
        "#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=2 --time=30 --requeue\n"
        f"#SBATCH --signal=B:USR1@60 --open-mode=append --output={log}\nexec {shlex.join(words)}\n"
    )
    job = parse_number(call(["sbatch", "--parsable", str(tmp_path / "job.sbatch")]))
    wait_until(lambda: is_in_work(run, "draw"), "a worker draws")
    nodes = {line.split()[-1] for line in call(["squeue", "--noheader", "--steps", "--format=%j %N"]).splitlines()}
    assert {"n1", "n2"} <= nodes
    call(["scancel", "--batch", "--signal=USR1", job])
    wait_until(lambda: "goes back into the queue" in log.read_text(), "the job requeues itself")
    wait_until(lambda: not read_queue([job]), "the job is over")
    assert "on 2 nodes: n1, n2" in log.read_text()
    assert sums(run) == local


def test_a_training_on_two_nodes_has_the_losses_of_one_process_and_is_requeued_from_its_checkpoint(
    tmp_path: Path, local: dict[str, str]
) -> None:
    def losses(processes: int) -> list[float]:
        run = tmp_path / f"run-{processes}"
        render(run, tmp_path, f"models.training_processes={processes}")
        ltgc("slurm", "submit", str(run), "--to", CONTROL)
        if processes > 1:
            metrics = run / CONTROL / "metrics.jsonl"
            wait_until(lambda: metrics.exists() and '"loss"' in metrics.read_text(), "a step was trained")
            call(["scancel", "--batch", "--signal=USR1", running(run, CONTROL)[0].full_id])
        wait_for_the_end(run)
        logs = "".join(log.path.read_text() for log in find_logs(run) if log.name == CONTROL)
        assert ("back into the queue" in logs) == (processes > 1), logs
        return [line["losses"]["loss"] for line in RunDirectory(run).lines(CONTROL, "history")]

    assert losses(2) == pytest.approx(losses(1), rel=1e-4)
