"""Damage files of a finished run at random, and have each repaired by the command that the message gives.

    python -m tests.drills.repairs RUN --damages 100 --seed 0 [--at-once 5]

A bit is flipped, the file is cut, or it is deleted: results, and the JSON that steers the run. Each damage must be
named, with a command; that command is run as it stands, as often as messages give one; and then every file must hold
what it held. What only says when and by whom something was made may differ. The run is copied first.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from tests.drills.flipped_bits import UNREAD
from tests.golden_runs import without_times

MAX_COMMANDS = 3  # until a run is whole
#: Files that say when, how fast or by whom; without them, the run is as good as before.
_OF_TIME = ("manifest.json", "provenance.json", "begun.json", "recipe.json")


@dataclass(frozen=True)
class Damage:
    """What was done to a file, and what came of it; ``wrong`` is empty if it was repaired."""

    path: str
    kind: str
    seconds: float
    wrong: str


def flip(path: Path, rng: random.Random) -> None:
    content, bit = bytearray(path.read_bytes()), rng.randrange(8 * path.stat().st_size)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def delete(path: Path, rng: random.Random) -> None:
    path.unlink()


KINDS: tuple[Callable[[Path, random.Random], None], ...] = (flip, cut, delete)


def files_of(run: Path) -> list[Path]:
    """Return the files of a run that can be damaged."""
    paths = [path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    return [path for path in paths if not set(UNREAD) & set(path.relative_to(run).parts)]


def contents(run: Path) -> dict[str, bytes]:
    """Return what each file says, but for when and by whom; of a report, only that there is one."""
    found = {}
    for path in files_of(run):
        name = path.relative_to(run).as_posix()
        is_of_time = name.startswith("report/") or "/chunks/" in name or path.name in _OF_TIME
        try:
            found[name] = b"" if is_of_time else without_times(path)
        except ValueError:  # damaged, and not repaired
            found[name] = path.read_bytes()
    return {name: content for name, content in found.items() if name != "report/begun.json"}


def call(words: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole = [sys.executable, "-m", "ltgc_local.cli", *words]
    return subprocess.run(whole, capture_output=True, text=True, cwd=place, env=environment)


def command_in(said: str) -> list[str] | None:
    """Return the first command that a message gives."""
    found = re.search(r"type:?\s+(ltgc-local [^\n]*)", said)
    return shlex.split(found[1].split(", with its recipe")[0])[1:] if found else None


def repair(run: Path, place: Path, damaged: list[Path]) -> str:
    """Do what messages say until nothing is damaged; return what went wrong, or ""."""
    check = ["status", "--check", str(run)]
    found = call(check, place)
    if found.returncode != 5:
        return f"not found: exit code {found.returncode}: {found.stdout}{found.stderr}"
    if missing := [path for path in damaged if f"{path}: " not in found.stderr]:
        # Without the recipe nothing else can be told, and without plan.json nothing of the plan's lines.
        told = [path for path in damaged if path not in missing]
        is_hidden = any(path.name == "recipe.json" for path in told)
        missing = [path for path in missing if path.with_suffix(".json") not in told]
        if missing and not is_hidden:
            return f"not named: {missing[0]}: {found.stderr}"
    for _ in range(MAX_COMMANDS):
        command = command_in(found.stderr)
        if command is None:
            return f"no command in: {found.stderr}"
        done = call(command, place)
        if done.returncode == 5 and command_in(done.stderr):  # it found more damage, and says what to type
            found = done
            continue
        if done.returncode:
            return f"{shlex.join(command)}: exit code {done.returncode}: {done.stdout}{done.stderr}"
        found = call(check, place)
        if found.returncode == 0:
            return ""
    return f"still damaged: {found.stderr}"


def drill(
    run: Path, number: int, seed: int, at_once: int = 1, say: Callable[[Damage], None] = lambda damage: None
) -> list[Damage]:
    """Damage files of a copy of ``run``, ``at_once`` at a time, and repair them.

    Args:
        run: finished, and made by a command that works in the repository's folder.
    """
    rng, place, done = random.Random(seed), Path(__file__).resolve().parents[2], []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(run, Path(folder) / "run"))
        before = contents(copy)
        while len(done) < number:
            paths = rng.sample(files_of(copy), min(at_once, number - len(done)))
            kinds = [rng.choice(KINDS) for _ in paths]
            start = time.monotonic()
            for path, damage in zip(paths, kinds, strict=True):
                damage(path, rng)
            wrong = repair(copy, place, paths)
            after = contents(copy)
            unlike = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
            wrong = wrong or (f"not as before: {', '.join(unlike)}" if unlike else "")
            for path, damage in zip(paths, kinds, strict=True):
                name = path.relative_to(copy).as_posix()
                done.append(Damage(name, damage.__name__, round(time.monotonic() - start, 1), wrong))
                say(done[-1])
            if wrong:
                shutil.rmtree(copy)
                shutil.copytree(run, copy)
    return done


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--damages", default=100, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--at-once", default=1, show_default=True)
def main(run: Path, damages: int, seed: int, at_once: int) -> None:
    def say(damage: Damage) -> None:
        print(f"{damage.kind:7} {damage.path:45} {damage.seconds:6.1f} s  {damage.wrong or 'repaired'}", flush=True)

    done = drill(run, damages, seed, at_once, say)
    counts = Counter((damage.kind, not damage.wrong) for damage in done)
    for (kind, is_repaired), count in sorted(counts.items()):
        print(f"{count:6} {kind} {'repaired' if is_repaired else 'NOT REPAIRED'}")
    sys.exit(any(damage.wrong for damage in done))


if __name__ == "__main__":
    main()
