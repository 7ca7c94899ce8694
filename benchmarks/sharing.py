"""How well workers share steps, and what starting, sharing and recording them costs. On a CPU.

python -m benchmarks.sharing                        # more than ten minutes on two idle cores
python -m benchmarks.sharing --part workers         # one of: workers, uneven, overhead

``workers``: steps of the quickstart, made larger, by two workers against one. ``uneven``: tasks of unequal speed, whose
work is to sleep, share a step's chunks. ``overhead``: what a step whose work is to sleep takes longer than its sleep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.contest import Timing
from benchmarks.extended import ROOT, copy_with_method
from benchmarks.results import report

STEPS = ("describe", "extend", "draw")
#: Settings that make the steps larger which a run measures, so that starting is a small part of them.
LARGER: dict[tuple[str, ...], tuple[str, ...]] = {
    ("describe",): (
        "describe.max_images_per_class=1000", "describe.batch_size=8", "extend.max_descriptions=1001",
    ),
    ("extend", "draw"): (
        "describe.max_images_per_class=50", "extend.max_descriptions=100", "extend.batch_size=1", "draw.shard_size=32",
    ),
}  # fmt: skip
SPEEDS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # of the tasks
CHUNKS, CHUNK_S = 500, 0.2  # of the step that they share, at full speed
NAPS, NAP_S, MINUTE_S = 8, 5.0, 60.0
#: A method whose steps sleep: a chain of them that cannot be shared, after one that can.
METHOD = '''
from __future__ import annotations

from typing import Literal

from ltgc_local.comparison.method_comparison import MethodComparison
from ltgc_local.methods.base import Method, StageSpec, Step, report_on
from ltgc_local.recipe import Recipe, variant
from ltgc_local.reporting.method_report import MethodReport


@variant("nap")
class NapRecipe(Recipe):
    """Sleep."""

    method: Literal["nap"] = "nap"
    naps: int = 1
    """Steps that follow one another."""
    nap_seconds: float = 1.0
    """Seconds of each."""
    chunks: int = 1
    """Chunks of the step that is shared."""
    chunk_seconds: float = 1.0
    """Seconds of each, at full speed."""


def plan(recipe: NapRecipe) -> tuple[Step, ...]:
    steps = [Step("shared", StageSpec("nap.stages:SharedStage", "chunks"), {}, None, ("chunks", "chunk_seconds"))]
    for number in range(recipe.naps):
        inputs = {"before": (steps[-1],)}
        steps.append(Step(f"nap/{number}", StageSpec("nap.stages:NapStage"), inputs, None, ("nap_seconds",)))
    return (*steps, report_on(steps[-1]))


METHOD = Method("nap", plan, lambda *_: [], lambda *_: {}, MethodReport(), MethodComparison())
'''
STAGES = """
from __future__ import annotations

import os
import time
from pathlib import Path

from ltgc_local.methods.stage import ChunkedStage, WholeStage, split
from ltgc_local.runs.files import Json


class SharedStage(ChunkedStage["NapRecipe", int]):
    is_ready = False

    def chunks(self):
        return split(range(self.recipe.chunks), 1)

    def make_chunk(self, chunk):
        if not self.is_ready and (folder := os.environ.get("NAP_READY")):
            (Path(folder) / str(os.getpid())).touch()
            while len(list(Path(folder).iterdir())) < int(os.environ["NAP_TASKS"]):
                time.sleep(0.01)
        self.is_ready = True
        time.sleep(self.recipe.chunk_seconds / float(os.environ.get("NAP_SPEED", "1")))
        return [Json("made", {"number": chunk[0]})]


class NapStage(WholeStage):
    def make(self):
        time.sleep(self.recipe.nap_seconds)
        return [Json("made", {})]
"""

PREPARE = """
import sys
from pathlib import Path
from ltgc_local.pipeline.preparation import Request, prepare
from ltgc_local.recipe import load_recipe
prepare(Request(load_recipe(Path("nap.yaml"), sys.argv[2:]), Path(sys.argv[1]), "benchmark"), print)
"""


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start ``ltgc-local`` with the package of a folder."""
    command = [sys.executable, "-P", "-m", "ltgc_local", *words]
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)} | environment)


def finish(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        if process.wait():
            raise click.ClickException(f"{process.args} ended with exit code {process.returncode}")


def sets(*keys: str) -> list[str]:
    return [word for key in keys for word in ("--set", key)]


def time_steps(folder: Path, workers: int) -> dict[str, tuple[int, float]]:
    """Run the quickstart's steps with so many workers; return the items and the seconds of each."""
    recipe, found = str(ROOT / "recipes/quickstart.yaml"), {}
    for steps, keys in LARGER.items():
        out = folder / f"{steps[-1]}-{workers}"
        every = ("describe.tail_below=100000", "leaks.enabled=false", f"models.workers={workers}")
        finish(start(ROOT, "run", recipe, "--to", steps[-1], "--out", str(out), *sets(*keys, *every)))
        for step in steps:
            manifest = json.loads((out / step / "manifest.json").read_text())
            found[step] = manifest["items"], manifest["wall_seconds"]
    return found


def compare_workers(rounds: int) -> dict[str, list[Timing]]:
    """Return the rates of one and of two workers by step, in turns."""
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                for step, (items, seconds) in time_steps(Path(folder), workers).items():
                    found.setdefault((step, workers), []).append(items / seconds)
    sections = {}
    for step in STEPS:
        one = sorted(found[step, 1])[rounds // 2]
        sections[step] = [
            Timing(f"{workers} worker{'s' * (workers > 1)}", sorted(rates)[rounds // 2], min(rates), max(rates), None,
                   sorted(rates)[rounds // 2] / one)
            for (name, workers), rates in found.items()
            if name == step
        ]  # fmt: skip
    return sections


def share_unevenly(folder: Path) -> dict[str, Any]:
    """Let tasks of unequal speed share a step; return how long it took, and would take if none ever waited."""
    run, ready = folder / "uneven", folder / "ready"
    ready.mkdir()
    keys = [f"chunks={CHUNKS}", f"chunk_seconds={CHUNK_S}"]
    subprocess.run([sys.executable, "-c", PREPARE, str(run), *keys], cwd=folder, check=True)
    facts = {"NAP_READY": str(ready), "NAP_TASKS": str(len(SPEEDS))}
    tasks = [
        start(folder, "work", str(run), "shared", NAP_SPEED=str(speed), SLURM_ARRAY_TASK_ID=str(number), **facts)
        for number, speed in enumerate(SPEEDS)
    ]
    finish(*tasks)
    begun = max(path.stat().st_mtime for path in ready.iterdir())
    ended = max(path.stat().st_mtime for path in (run / "shared/chunks").glob("[0-9]*.json"))
    ideal = CHUNKS * CHUNK_S / sum(SPEEDS)
    return {"tasks": len(SPEEDS), "s": ended - begun, "ideal s": ideal, "ratio": (ended - begun) / ideal}


def measure_overhead(folder: Path) -> dict[str, Any]:
    """Run a chain of steps that sleep; return what each took longer than its sleep, and its share of a minute."""
    naps = sets(f"naps={NAPS}", f"nap_seconds={NAP_S}", "chunk_seconds=0")
    begin = time.monotonic()
    finish(start(folder, "run", "nap.yaml", *naps, "--to", f"nap/{NAPS - 1}", "--out", str(folder / "naps")))
    wall = time.monotonic() - begin
    extra = (wall - NAPS * NAP_S) / NAPS
    return {
        "steps": NAPS,
        "s": wall,
        "asleep s": NAPS * NAP_S,
        "extra s per step": extra,
        "% of a minute": 100 * extra / MINUTE_S,
    }


@click.command()
@click.option(
    "--part", type=click.Choice(["workers", "uneven", "overhead"]), multiple=True, help="All if none is named."
)
@click.option("--rounds", default=3, show_default=True)
@click.option("--write/--no-write", default=True, help="Write the result under benchmarks/results.")
def main(part: Sequence[str], rounds: int, write: bool) -> None:
    """Print the rates of one and of two workers, and what sharing and starting cost."""
    parts = part or ("workers", "uneven", "overhead")
    sections = compare_workers(rounds) if "workers" in parts else {}
    tables: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        copy_with_method(folder, "nap", METHOD, STAGES)
        if "uneven" in parts:
            speeds = ", ".join(f"{speed:g}" for speed in SPEEDS)
            tables[f"tasks whose speeds are as {speeds}"] = [share_unevenly(folder)]
        if "overhead" in parts:
            tables["steps that sleep, one after another"] = [measure_overhead(folder)]
    report(
        "sharing",
        "cpu",
        sections,
        unit="items",
        weights="miniature",
        command="python -m benchmarks.sharing",
        tables=tables,
        write=write and len(parts) == 3,
    )


if __name__ == "__main__":
    main()
