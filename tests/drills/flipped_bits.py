"""Flip bits in a finished run, one at a time, and see each named before it is used.

    python -m tests.drills.flipped_bits RUN --flips 1000      each file checked as ``status --check`` does
    python -m tests.drills.flipped_bits RUN --readers         each step's worker started on a damaged input

The run is copied first. A flip keeps the file's times, as a disk's own error would.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ltgc_local.errors import ArtefactError
from ltgc_local.pipeline.damage import find_all_damage
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.provenance import read_run_recipe

#: Memories that are made anew.
UNREAD: tuple[str, ...] = ("verified.json", "model_digests.json", "batch_sizes.json")
UNREAD += ("logs", "metrics.jsonl", "timeline.jsonl")  # for people


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """Flip one bit of a file, and flip it back."""

    def flip() -> None:
        state = path.stat()
        with path.open("r+b") as file:
            file.seek(bit // 8)
            (byte,) = file.read(1)
            file.seek(bit // 8)
            file.write(bytes([byte ^ (1 << bit % 8)]))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))

    flip()
    try:
        yield
    finally:
        flip()


def files_of(run: Path) -> list[Path]:
    """Return the files of a run that something reads."""
    found = (path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size)
    return [path for path in found if not set(UNREAD) & set(path.relative_to(run).parts) and path.suffix != ".tmp"]


def names_of_damage(run: Path) -> str:
    """Return what a command that checks the run says, "" where it finds nothing."""
    try:
        return "\n".join(find_all_damage(read_run_recipe(run), run))
    except ArtefactError as problem:
        return str(problem)


def flip_bits(run: Path, number: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Flip bits at random, a file drawn evenly and a bit in it; return counts by kind of file, and the silent ones."""
    rng, counts, silent = random.Random(seed), Counter[str](), []
    files = files_of(run)
    assert names_of_damage(run) == "", "the run is damaged already"
    for _ in range(number):
        path = rng.choice(files)
        bit = rng.randrange(8 * path.stat().st_size)
        with flipped(path, bit):
            said = names_of_damage(run)
        counts[path.name.split("-")[0].split(".")[0] + path.suffix] += 1
        if not said.startswith(f"{path}: damaged"):
            silent.append(f"{path}, bit {bit}: {said or 'nothing said'}")
    assert names_of_damage(run) == ""
    return counts, silent


def start_readers(run: Path, seed: int = 0) -> Iterator[tuple[str, str, str, int, str]]:
    """Start each step's worker with one bit flipped in each kind of file that it might read.

    Yields:
        the step, the step and kind of the flipped file, the exit code and the last line of what was said.
    """
    rng, directory = random.Random(seed), RunDirectory(run)
    for step in build_plan(read_run_recipe(run)):
        kept = run / "kept"
        os.replace(run / step.name, kept)
        for name in step.reads:
            manifest = directory.manifest(name)
            assert manifest is not None
            by_kind = {file.split("-")[0].split(".")[0]: file for file in manifest.files}
            for kind, file in by_kind.items():
                path = run / name / file
                if not path.stat().st_size:
                    continue
                (run / step.name).mkdir(parents=True)
                with flipped(path, rng.randrange(8 * path.stat().st_size)):
                    command = [sys.executable, "-m", "ltgc_local.pipeline.worker", str(run), step.name, "0", "1"]
                    done = subprocess.run(command, capture_output=True, text=True)
                yield step.name, name, kind, done.returncode, (done.stderr.strip().splitlines() or [""])[-1]
                shutil.rmtree(run / step.name)
        os.replace(kept, run / step.name)


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--flips", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--readers", is_flag=True, help="Start the steps' workers instead; takes minutes.")
def main(run: Path, flips: int, seed: int, readers: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(run, Path(folder) / "run"))
        if readers:
            for step, name, kind, code, said in start_readers(copy, seed):
                told = "not read" if code == 0 else "named" if code == 5 and "damaged" in said else f"WRONG: {said}"
                print(f"{step:20} {name + '/' + kind:32} exit code {code}  {told}", flush=True)
            return
        counts, silent = flip_bits(copy, flips, seed)
    for kind, count in sorted(counts.items()):
        print(f"{count:6} {kind}")
    print(f"{sum(counts.values())} flips, {len(silent)} not named")
    print("\n".join(silent))


if __name__ == "__main__":
    main()
