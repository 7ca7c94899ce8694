"""Make a run by tasks alone, as a cluster does (``ltgc-local work RUN STEP``), and kill them at random.

    python -m tests.drills.tasks --recipe quickstart --tasks 2 --kills 50 --seed 0

Several tasks share each step; one that ends or is killed is started again until the step is complete. In the end the
artefacts must be those of a run that a launcher made undisturbed, and no chunk may have been completed twice.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.preparation import Request, prepare
from ltgc_local.recipe import load_recipe
from tests import golden_runs
from tests.drills.kills import OFTEN, Tally, leftovers, made_twice, make_reference, processes_of

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
STEP_S = 900.0  # for one step, kills and all
PAUSE_S = 0.05


class TaskDrill:
    """Makes one run by tasks.

    Args:
        reference: the same run, made by a launcher.
        mean_s: seconds until a kill, on average.
    """

    def __init__(
        self, recipe: str, reference: Path, out: Path, seed: int, mean_s: float, say: Callable[[str], None] = print
    ) -> None:
        self.out, self.reference, self.mean_s, self.say = out, reference, mean_s, say
        self.rng, self.tally = random.Random(seed), Tally()
        path, sets = golden_runs.ROOT / f"recipes/{recipe}.yaml", (*golden_runs.SMALL[recipe], *OFTEN[recipe])
        self.recipe = load_recipe(path, list(sets))

    def run(self, tasks: int, kills: int) -> Tally:
        """Make all steps, with ``tasks`` at a time, and kill at most ``kills`` processes."""
        prepare(Request(self.recipe, self.out, "ltgc-local run RECIPE"), self.say)
        for step in build_plan(self.recipe):
            self._make(step.name, tasks, kills)
        made, wanted = golden_runs.sums(self.out), golden_runs.sums(self.reference)
        if unlike := sorted(name for name in made.keys() | wanted.keys() if made.get(name) != wanted.get(name)):
            self._wrong(f"not the same bytes: {', '.join(unlike)}")
        if twice := [f"{step} chunk {number}" for step, number in made_twice(self.out)]:
            self._wrong(f"made twice: {', '.join(twice)}")
        done = self._call("run", str(self.out))  # which sweeps what the killed left, and has nothing to do
        if done.wait():
            self._wrong(f"run: exit code {done.returncode}")
        self.tally.complete = int(done.returncode == 0)
        if names := leftovers(self.out):
            self._wrong(f"left behind: {', '.join(names)}")
        return self.tally

    def _make(self, step: str, tasks: int, kills: int) -> None:
        manifest, deadline = self.out / step / "manifest.json", time.monotonic() + STEP_S
        running: list[subprocess.Popen[bytes]] = []
        again, due = 0.0, time.monotonic() + self.rng.expovariate(1 / self.mean_s)
        while not manifest.exists() and time.monotonic() < deadline:
            for task in [task for task in running if task.poll() is not None]:
                running.remove(task)
                self.tally.endings[f"exit code {task.returncode}"] += 1
                if task.returncode not in (0, 75, 6, *(-number for number in SIGNALS)):
                    self._wrong(f"{step}: exit code {task.returncode}")
                again = time.monotonic() + self.rng.uniform(0, 3)
            if len(running) < tasks and time.monotonic() >= again:
                running.append(self._call("work", str(self.out), step))
            if running and time.monotonic() >= due and sum(self.tally.kills.values()) < kills:
                self._kill(self.rng.choice(running), step)
                due = time.monotonic() + self.rng.expovariate(1 / self.mean_s)
            time.sleep(PAUSE_S)
        if not manifest.exists():
            self._wrong(f"{step}: not complete after {STEP_S:.0f} s")
        for task in running:
            with suppress(subprocess.TimeoutExpired):
                task.wait(120)
            if task.poll() is None:
                self._wrong(f"{step}: a task still runs 2 minutes after the step was complete")
            for process in processes_of(task.pid):
                os.kill(process.pid, signal.SIGKILL)

    def _kill(self, task: subprocess.Popen[bytes], step: str) -> None:
        if found := processes_of(task.pid):
            victim, number = self.rng.choice(found), self.rng.choice(SIGNALS)
            with suppress(ProcessLookupError):
                os.kill(victim.pid, number)
            self.tally.kills[f"{number.name} {'task' if victim.pid == task.pid else 'its worker or server'}"] += 1
            self.say(f"{sum(self.tally.kills.values()):4} {number.name} in {step}")

    def _call(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "ltgc_local.cli", *words, "-q"],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def _wrong(self, what: str) -> None:
        self.tally.wrong.append(what)
        self.say(f"     WRONG: {what}")


@click.command()
@click.option("--recipe", type=click.Choice(list(OFTEN)), default="quickstart", show_default=True)
@click.option("--tasks", default=2, show_default=True)
@click.option("--kills", default=50, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--mean", "mean_s", default=10.0, show_default=True, help="Seconds until a kill, on average.")
@click.option(
    "--reference", type=click.Path(path_type=Path, exists=True), help="The same run; made first if not given."
)
def main(recipe: str, tasks: int, kills: int, seed: int, mean_s: float, reference: Path | None) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        reference = reference or make_reference(recipe, place / "reference")
        tally = TaskDrill(recipe, reference, place / "run", seed, mean_s).run(tasks, kills)
    sys.exit(tally.say())


if __name__ == "__main__":
    main()
