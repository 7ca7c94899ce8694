"""How far a run is: what is said of each step, in words, as numbers, and on a terminal that is watched."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ltgc_local.cli import main
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.status import StepStatus, run_status
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json
from ltgc_local.runs.logs import worker_logs
from ltgc_local.runs.metrics import MetricsWriter, metrics_path
from ltgc_local.runs.progress import Progress
from ltgc_local.runs.provenance import write_run_recipe

FACTS = {"items": 3, "seconds": 1.0, "peak_mib": 5}
MINUTES = 60.0


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    return make_recipe()


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> RunDirectory:
    """A run that has described, and has begun to extend."""
    run = RunDirectory(tmp_path / "run")
    for step in ("describe", "extend"):
        run.write_chunk(step, 0, [Json("x", 1)], FACTS)
    run.write_manifest("describe", {}, 1, 2.5)
    run.begin("extend", {})
    write_run_recipe(run.root, recipe)
    return run


def write_line(folder: Path, worker: int = 0, ago: float = 0.0, **values: float) -> None:
    """Write what a worker said of its progress some seconds ago."""
    path = metrics_path(folder, worker)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"time": (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(), **values}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def status_of(run: RunDirectory, recipe: Recipe, step: str) -> StepStatus:
    return next(each for each in run_status(recipe, run.root) if each.name == step)


def test_what_is_complete_begun_and_not_begun_is_said_in_words_and_in_numbers(run: RunDirectory) -> None:
    lines = call("status", run.root).stdout.splitlines()
    assert [line.split(maxsplit=1) for line in lines[:3]] == [
        ["describe", "complete  3 items, 2.5 s, 5 MiB"],
        ["extend", f"stopped   3 items; to resume, type: ltgc-local run {run.root}"],
        ["draw", "waiting"],
    ]
    whole = json.loads(call("status", run.root, "--json").stdout)
    assert (whole["is_complete"], whole["missing"], whole["costs"]["bytes"] > 0) == (False, None, True)
    numbers = whole["steps"]
    costs = numbers["describe"].pop("costs")
    assert costs["bytes"] == 2 and numbers["describe"].pop("name") == "describe"
    assert numbers["describe"] | {"rate": 0} == {
        "state": "complete", "items": 3, "total": 3, "rate": 0, "seconds": 2.5, "seconds_left": None, "peak_mib": 5,
        "problem": "", "warnings": [], "slurm": None,
    }  # fmt: skip
    assert numbers["describe"]["rate"] == pytest.approx(3 / 2.5)
    assert [numbers[step]["state"] for step in ("extend", "draw")] == ["stopped", "waiting"]


def test_a_step_runs_while_a_launcher_holds_the_run_and_its_workers_add_up(run: RunDirectory, recipe: Recipe) -> None:
    folder = run.folder("extend")
    run.write_chunk_plan("extend", [[0] * 3, [0] * 97], int)  # the first of which is complete
    write_line(folder, 0, items=10, in_chunk=10, total=100, items_per_second=2.0, seconds=5.0, peak_mib=700)
    write_line(folder, 0, step=3, loss=0.5)
    write_line(folder, 1, items=40, in_chunk=17, total=100, items_per_second=1.0, seconds=5.0, peak_mib=900)
    write_line(folder, 2, ago=60, items=40, in_chunk=40, total=100, items_per_second=9.0, seconds=5.0)  # has ended
    with run.locked():
        found = status_of(run, recipe, "extend")
        assert (found.state, found.items, found.total, found.rate) == ("running", 30, 100, 3.0)
        assert found.seconds == pytest.approx(5.0, abs=0.1) and found.peak_mib == 900
        assert found.seconds_left == pytest.approx(70 / 3)
        assert "running   30 of 100 items, 3 items/s, 23.3 s left, 900 MiB" in call("status", run.root).stdout
    found = status_of(run, recipe, "extend")
    assert (found.state, found.items, found.rate, found.seconds_left) == ("stopped", 30, None, None)


def test_only_a_step_whose_inputs_are_complete_runs(run: RunDirectory, recipe: Recipe) -> None:
    run.begin("draw", {})  # stopped some other time
    with run.locked():
        states = {step.name: step.state for step in run_status(recipe, run.root)}
    assert (states["extend"], states["draw"], states["generated"]) == ("running", "stopped", "waiting")


def test_a_launcher_that_died_holds_nothing_and_its_claim_is_left_alone(run: RunDirectory, recipe: Recipe) -> None:
    code = (
        "import os, pathlib, sys; from ltgc_local.runs.directory import RunDirectory\n"
        "with RunDirectory(pathlib.Path(sys.argv[1])).locked(): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(run.root)], check=True)
    (claim,) = run.root.glob(".lock-*")
    assert status_of(run, recipe, "extend").state == "stopped"
    assert claim.exists()
    claim.write_text(claim.read_text().replace('"host":"', '"host":"another-'))  # whose processes we cannot see
    assert status_of(run, recipe, "extend").state == "running"
    past = time.time() - 10 * MINUTES
    os.utime(claim, (past, past))
    assert status_of(run, recipe, "extend").state == "stopped"


def test_what_stopped_a_step_is_said_until_it_is_taken_up_again(run: RunDirectory, recipe: Recipe) -> None:
    folder = run.folder("extend")
    write_line(folder, ago=10, items=1, total=2, seconds=3.0)
    with worker_logs(folder, 0, "error"):
        logging.getLogger("ltgc_local.pipeline.worker").error("out of memory\nsecond line")
        logging.getLogger("ltgc_local.methods.ltgc.stages.extend").warning("found nothing for 1 of 2 classes")
    found = status_of(run, recipe, "extend")
    assert (found.problem, found.warnings) == ("out of memory\nsecond line", ("found nothing for 1 of 2 classes",))
    lines = call("status", run.root).stdout.splitlines()
    resume = f"to resume, type: ltgc-local run {run.root}"
    assert any(line.endswith(f"stopped   1 of 2 items; out of memory; {resume}") for line in lines)
    assert any(line.strip() == "warning: found nothing for 1 of 2 classes" for line in lines)
    write_line(folder, ago=-60, items=2, total=2, seconds=3.0)  # a later process got further, and was killed
    assert status_of(run, recipe, "extend").problem == ""


def test_a_complete_step_keeps_its_warnings_and_says_which_files_are_gone(run: RunDirectory, recipe: Recipe) -> None:
    with worker_logs(run.folder("extend"), 0, "error"):
        logging.getLogger("ltgc_local.methods.ltgc.stages.extend").warning("found nothing for 1 of 2 classes")
    run.write_manifest("extend", {}, 1, 1.0)
    (run.folder("extend") / "x-00000.json").unlink()
    found = status_of(run, recipe, "extend")
    assert found.warnings == ("found nothing for 1 of 2 classes",)
    assert found.problem == "1 file is gone or changed, such as x-00000.json"
    said = f"{found.problem}; type: ltgc-local repair {run.root}"
    assert any(line.endswith(said) for line in call("status", run.root).stdout.splitlines())


def test_what_progress_writes_is_what_status_reads(run: RunDirectory, recipe: Recipe) -> None:
    with Progress("extend", MetricsWriter(metrics_path(run.folder("extend"))).write) as progress:
        progress.expect(12)
        progress.advance(5)
    found = status_of(run, recipe, "extend")
    assert (found.items, found.total) == (5, 12) and found.peak_mib is not None and found.peak_mib > 1


@pytest.mark.parametrize("more", [(), ("--json",), ("--check",)])
def test_watching_is_for_terminals(run: RunDirectory, more: tuple[str, ...]) -> None:
    refused = call("status", run.root, "--watch", *more)
    assert refused.exit_code == 2 and "--watch redraws a terminal" in refused.stderr


class Watched:
    """``ltgc-local status RUN --watch`` on a terminal."""

    def __init__(self, root: Path) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:  # this process is the command; its controlling terminal is the other end
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a background shell has its children ignore
            os.execv(sys.executable, [sys.executable, "-m", "ltgc_local.cli", "status", str(root), "--watch"])
        self.shown = ""

    def wait_for(self, pattern: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.shown):
            assert time.monotonic() < deadline, self.shown
            if select.select([self._terminal], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self._terminal, 65536).decode()
                except OSError:  # the command has ended
                    assert re.search(pattern, self.shown), self.shown

    def press(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def exit_code(self) -> int:
        self.wait_for("", 0)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def watched(root: Path) -> Iterator[Watched]:
    found = Watched(root)
    try:
        yield found
    finally:
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGKILL)


def test_a_watched_run_is_redrawn_as_it_goes_on_until_it_is_complete(run: RunDirectory, recipe: Recipe) -> None:
    with run.locked(), watched(run.root) as terminal:
        terminal.wait_for(r"extend +running +3 items")
        write_line(run.folder("extend"), items=4, total=9, items_per_second=0.5, seconds=2.0, peak_mib=7)
        terminal.wait_for(r"\x1b\[2J[^\x1b]*\x1b\[1;1H[^\x1b]*extend +running +4 of 9 items, 0.5 items/s, 10.0 s left")
        for step in build_plan(recipe):
            run.write_chunk(step.name, 0, [Json("x", 1)], FACTS)
            run.write_manifest(step.name, {}, 1, 1.0)
        terminal.wait_for(r"report +complete")
        assert terminal.exit_code() == 0


def test_control_c_ends_watching_with_one_line(run: RunDirectory) -> None:
    with watched(run.root) as terminal:
        terminal.wait_for(r"draw +waiting[^\x1b]*report +waiting")
        before = len(terminal.shown)
        terminal.press(b"\x03")
        terminal.wait_for(r"no longer watching; the run is not affected\r\n")
        assert terminal.shown[before:].count("\n") == 1 and "Traceback" not in terminal.shown
        assert terminal.exit_code() == 0


@pytest.mark.parametrize(
    ("images", "code", "said"),
    [
        (None, 75, "waiting"),
        (sum((200 - n) for n in (17, 10)), 0, "costs so far: 0.0 s of CPU time, "),
        (369, 7, "finished with 4 of 373 images missing; the reasons are in "),
    ],
)
def test_a_script_is_told_whether_a_run_is_complete_and_whether_images_are_missing(
    tmp_path: Path, make_recipe: Callable[..., Recipe], images: int | None, code: int, said: str
) -> None:
    recipe = make_recipe("describe.tail_below=20", "extend.max_descriptions=200")  # dress has 17 images, coat has 10
    run = RunDirectory(tmp_path / "run")
    run.root.mkdir()
    write_run_recipe(run.root, recipe)
    for step in build_plan(recipe) if images is not None else ():
        costs = {"costs": {"images": images}} if step.name == "generated" else {}
        run.write_chunk(step.name, 0, [Json("made", 0)], FACTS | costs)
        run.write_manifest(step.name, {}, 1, 0)
    done = call("status", run.root, "--exit-code")
    assert done.exit_code == code and said in done.stdout
    assert call("status", run.root).exit_code == 0
    whole = json.loads(call("status", run.root, "--json", "--exit-code").stdout)
    assert (whole["is_complete"], whole["missing"]) == (code != 75, {75: None, 0: 0, 7: 4}[code])
