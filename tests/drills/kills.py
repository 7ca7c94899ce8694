"""Kill a run's processes at random, resume it each time, and see that nothing is lost, doubled or left behind.

    python -m tests.drills.kills --recipe quickstart --kills 200 --seed 0
    python -m tests.drills.kills --recipe tgn_quickstart --kills 200 --seed 0 --signal TERM
    python -m tests.drills.kills --recipe quickstart --kills 0 --races 10

The victim is any process of the run: the launcher, the server that forks workers, a worker. After each kill the others
must end by themselves, or go on; then the same command resumes. When a run is complete, its artefacts must be those of
a run that nobody disturbed, byte for byte; no chunk may have been completed twice; and no temporary file, lock or lease
may be left. SIGTERM must leave none at any time. Then a new run begins, until there were as many kills as asked for.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from tests import golden_runs

MAX_MEANS = 4.5  # longest time until a kill, in means
MAX_WRONG = 30
END_S = 75.0  # for the others to end after one: a worker of low priority has 60 s to save what it has in hand
#: Makes trainings save themselves, so that what is killed every few seconds gets on.
OFTEN = {
    "quickstart": ("train.checkpoint_minutes=0.03",),
    "tgn_quickstart": tuple(f"{block}.checkpoint_minutes=0.03" for block in ("kmdn", "cdtg", "classifier")),
}
LEFT = re.compile(r"\..*|.*\.(tmp|lease|dead)")  # names of files that belong to somebody who works
CHUNK = re.compile(r": chunk (\d+): ")


@dataclass(frozen=True)
class Process:
    """A process of the run's session."""

    pid: int
    parent: int
    command: str

    def kind(self, launcher: int) -> str:
        if self.pid == launcher:
            return "launcher"
        if "fork_server" in self.command:
            return "fork server" if self.parent == launcher else "worker"
        return "worker" if "pipeline.worker" in self.command or "worker" in self.command else "other"


@dataclass
class Tally:
    """What was done, and what went wrong."""

    kills: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    complete: int = 0
    wrong: list[str] = field(default_factory=list)

    def say(self) -> int:
        """Print it; return the exit code of the drill."""
        for kind, count in sorted((self.kills + self.endings).items()):
            print(f"{count:5} {kind}")
        print(f"{self.complete} runs complete, {len(self.wrong)} wrong")
        print("\n".join(self.wrong))
        return int(bool(self.wrong))


class Drill:
    """Runs a recipe again and again in folders under ``place``, and disturbs it.

    Args:
        reference: the same run, undisturbed.
        mean_s: seconds until a kill, on average. With too few for the longest chunk, no run gets complete.
    """

    def __init__(
        self,
        recipe: str,
        reference: Path,
        place: Path,
        seed: int,
        mean_s: float = 10.0,
        say: Callable[[str], None] = print,
    ) -> None:
        self.recipe, self.place, self.mean_s, self.say = recipe, place, mean_s, say
        self.rng, self.tally, self.number = random.Random(seed), Tally(), 0
        self.wanted = golden_runs.sums(reference)

    @property
    def out(self) -> Path:
        return self.place / f"run-{self.number}"

    def start(self) -> subprocess.Popen[bytes]:
        """Start or resume the run, in a session of its own."""
        with (self.place / "stderr").open("ab") as said:
            return subprocess.Popen(
                command(self.recipe, self.out),
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def kill(self, number: int, signals: tuple[int, ...]) -> Tally:
        """Kill ``number`` processes, one after the other, and check each run that gets complete, the last one too."""
        launcher, by = self.start(), None
        while sum(self.tally.kills.values()) < number:
            if self._ends_within(launcher, min(self.rng.expovariate(1), MAX_MEANS) * self.mean_s):
                self._check_ended(launcher, by)
                launcher, by = self.start(), None
                continue
            signal_number = self.rng.choice(signals)
            found = processes_of(launcher.pid)
            if not found:
                continue
            victim = self.rng.choice([*found, *(each for each in found if each.pid == launcher.pid)])
            kind = f"{signal.Signals(signal_number).name} {victim.kind(launcher.pid)}"
            with suppress(ProcessLookupError):
                os.kill(victim.pid, signal_number)
            self.tally.kills[kind] += 1
            self.say(f"{sum(self.tally.kills.values()):4} {kind:22} {self._progress()}")
            is_launcher = victim.pid == launcher.pid
            by = signal_number if is_launcher else -signal_number
            if self._ends_within(launcher, END_S if is_launcher else 5.0):
                self._check_ended(launcher, by)
                launcher, by = self.start(), None
            elif is_launcher:
                self._wrong(f"the launcher still runs {END_S:.0f} s after {kind}")
                os.killpg(launcher.pid, signal.SIGKILL)
        while self._ends_within(launcher, 1200.0):
            is_complete = launcher.returncode == 0
            self._check_ended(launcher, by)
            if is_complete or len(self.tally.wrong) > MAX_WRONG:
                return self.tally
            launcher, by = self.start(), None
        os.killpg(launcher.pid, signal.SIGKILL)
        self._wrong("the last run did not end within 20 minutes")
        return self.tally

    def race(self, number: int) -> Tally:
        """Start two launchers of the same run at once; one must be refused; the other goes on until it is killed."""
        for _ in range(number):
            racers = [self.start(), self.start()]
            self.tally.kills["race"] += 1
            deadline = time.monotonic() + END_S
            while all(racer.poll() is None for racer in racers) and time.monotonic() < deadline:
                time.sleep(0.05)
            codes = [racer.poll() for racer in racers]
            self.say(f"race: exit codes {codes} {self._progress()}")
            if 0 in codes and None in codes:  # the run is complete already, so the other has nothing to be refused
                codes = [racer.wait(END_S) for racer in racers]
            if sorted(map(str, codes)) not in (["75", "None"], ["0", "75"], ["0", "0"]):
                self._wrong(f"race: exit codes {codes}")
            self._ends_within(next((r for r, code in zip(racers, codes, strict=True) if code is None), racers[0]), 15.0)
            for racer in racers:
                with suppress(ProcessLookupError):
                    os.killpg(racer.pid, signal.SIGKILL)
                racer.wait()
        return self.kill(sum(self.tally.kills.values()), (signal.SIGKILL,))

    def _ends_within(self, launcher: subprocess.Popen[bytes], seconds: float) -> bool:
        try:
            launcher.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _check_ended(self, launcher: subprocess.Popen[bytes], by: int | None) -> None:
        """Check what a launcher left; ``by`` is the signal that it got, negative if another process got it."""
        code, deadline = launcher.returncode, time.monotonic() + END_S
        while (left := processes_of(launcher.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        said = (self.place / "stderr").read_text(errors="replace")
        (self.place / "stderr").unlink()
        self.tally.endings[f"exit code {code}"] += 1
        if left:
            self._wrong(f"left behind: {', '.join(each.command for each in left)}")
            for each in left:
                with suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)
        if "Traceback" in said:
            self._wrong(f"a traceback:\n{said[-3000:]}")
        expected = {None: (0,), signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (75, -signal.SIGTERM)}
        if code not in expected.get(by, (0, 6, 75)):
            self._wrong(f"exit code {code} after {by}: {said[-1000:]}")
        # One that ended before it listened has not yet swept what a kill before it left.
        is_orderly = by in (signal.SIGTERM, -signal.SIGTERM) and code == 75
        if is_orderly and (names := leftovers(self.out)):
            self._wrong(f"SIGTERM ({by}, exit code {code}) left {', '.join(names)}")
        if code == 0:
            self._check_complete()

    def _check_complete(self) -> None:
        self.tally.complete += 1
        made = golden_runs.sums(self.out)
        unlike = sorted(name for name in made.keys() | self.wanted.keys() if made.get(name) != self.wanted.get(name))
        if unlike:
            self._wrong(f"not the same bytes: {', '.join(unlike)}")
        if names := leftovers(self.out):
            self._wrong(f"left in a complete run: {', '.join(names)}")
        if twice := [f"{step} chunk {number}" for step, number in made_twice(self.out)]:
            self._wrong(f"made twice: {', '.join(twice)}")
        self.say(f"     run {self.number} is complete")
        if not self.tally.wrong:
            shutil.rmtree(self.out)
        self.number += 1

    def _progress(self) -> str:
        return f"{len(list(self.out.glob('**/manifest.json')))} steps complete"

    def _wrong(self, what: str) -> None:
        self.tally.wrong.append(f"run {self.number}: {what}")
        self.say(f"     WRONG: {what}")


def command(recipe: str, out: Path) -> list[str]:
    """Return the command of the drill's run."""
    return golden_runs.command(recipe, out, *(word for key in OFTEN[recipe] for word in ("--set", key)))


def processes_of(session: int) -> list[Process]:
    """Return the living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            state, parent, _, of_session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(of_session) == session and state not in "ZX":
                words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found.append(Process(int(path.name), int(parent), " ".join(words)))
    return found


def leftovers(run: Path) -> list[str]:
    """Return the names of files that nobody should have left."""
    names = (path.relative_to(run).as_posix() for path in run.rglob("*") if LEFT.fullmatch(path.name))
    return sorted(names)


def made_twice(run: Path) -> Iterator[tuple[str, int]]:
    """Yield the chunks that workers completed more than once, as their logs say."""
    for folder in sorted(path for path in run.rglob("logs") if path.is_dir()):
        lines = [line for log in folder.glob("worker-*.log*") for line in log.read_text(errors="replace").splitlines()]
        counts = Counter(int(found[1]) for line in lines if (found := CHUNK.search(line)))
        yield from ((folder.parent.relative_to(run).as_posix(), number) for number, n in counts.items() if n > 1)


def make_reference(recipe: str, out: Path) -> Path:
    """Run the recipe undisturbed."""
    subprocess.run(command(recipe, out), check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return out


@click.command()
@click.option("--recipe", type=click.Choice(list(OFTEN)), default="quickstart", show_default=True)
@click.option("--kills", default=200, show_default=True)
@click.option("--races", default=0, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--mean", "mean_s", default=10.0, show_default=True, help="Seconds until a kill, on average.")
@click.option("--signal", "name", type=click.Choice(["KILL", "TERM", "both"]), default="KILL", show_default=True)
@click.option(
    "--reference", type=click.Path(path_type=Path, exists=True), help="The same run; made first if not given."
)
def main(recipe: str, kills: int, races: int, seed: int, mean_s: float, name: str, reference: Path | None) -> None:
    signals = {"KILL": (signal.SIGKILL,), "TERM": (signal.SIGTERM,), "both": (signal.SIGKILL, signal.SIGTERM)}[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        drill = Drill(recipe, reference or make_reference(recipe, place / "reference"), place, seed, mean_s)
        tally = drill.race(races) if races else drill.tally
        if kills:
            tally = drill.kill(sum(tally.kills.values()) + kills, signals)
    sys.exit(tally.say())


if __name__ == "__main__":
    main()
