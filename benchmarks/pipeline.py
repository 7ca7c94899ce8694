"""A whole small run, step by step: wall seconds, how much of them is starting and loading, and memory.

python -m benchmarks.pipeline [--device cpu]

The quickstart's recipe with smaller budgets, on the miniatures. The steps that make images are compared with a script
of stock calls (``benchmarks.naive_pipeline``): one process, one item at a time, nothing written, nothing checked. Ours
starts a process per step, writes every prompt and reply, and asks Prompt 3 too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.results import report
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.provenance import read_run_recipe

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = (
    "describe.tail_below=30",
    "extend.max_descriptions=40",
    "assess.attempts=1",
    "leaks.enabled=false",
    "train.epochs=2",
)


def run_ours(out: Path) -> float:
    """Run the recipe; return its wall seconds."""
    sets = [word for budget in BUDGETS for word in ("--set", budget)]
    recipe = str(ROOT / "recipes/quickstart.yaml")
    start = time.perf_counter()
    command = [sys.executable, "-m", "ltgc_local.cli", "run", recipe, *sets, "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def run_naive(out: Path) -> tuple[dict[str, Any], float]:
    """Run the stock calls on what the run has; return their facts and the whole process's wall seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.naive_pipeline", str(out)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - start


def as_rows(out: Path, naive: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per step: ours from its manifest, then the script's."""
    run, rows = RunDirectory(out), []
    for step in build_plan(read_run_recipe(out)):
        facts = run.manifest(step.name)
        assert facts is not None, f"{step.name} is not complete"
        stock = naive["steps"].get(step.name)
        rows.append(
            {
                "step": step.name,
                "items": facts.items,
                "wall s": facts.wall_seconds,
                "of it starting and loading": f"{1 - facts.seconds / facts.wall_seconds:.0%}",
                "work s": facts.seconds,
                "peak MiB": facts.peak_mib,
                "stock calls: work s": stock and round(stock["work"], 2),
                "ratio of work": stock and f"{stock['work'] / max(facts.seconds, 0.01):.2f}",
            }
        )
    return rows


def total(rows: list[dict[str, Any]], column: str) -> float:
    return float(sum(row[column] for row in rows))


@click.command()
@click.option("--device", default="cpu", type=click.Choice(["cpu"]), help="The miniatures are a CPU's.")
@click.option("--write/--no-write", default=True, help="Write the result under benchmarks/results.")
def main(device: str, write: bool) -> None:
    """Print the table of steps."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        ours_s = run_ours(out)
        naive, naive_s = run_naive(out)
        rows = as_rows(out, naive)
    steps = naive["steps"]
    started = total(rows, "wall s") - total(rows, "work s")
    half = [row for row in rows if row["step"] in steps]
    report(
        "pipeline",
        device,
        {},
        unit="steps",
        weights="miniature",
        command="python -m benchmarks.pipeline --device cpu",
        tables={"step by step": rows},
        facts={
            "whole run": f"{ours_s:.0f} s, of which {started:.0f} s ({started / ours_s:.0%}) start processes, import "
            f"and load, and {ours_s - total(rows, 'wall s'):.0f} s are the launcher's",
            "memory": f"{max(row['peak MiB'] for row in rows)} MiB in the largest step; {naive['peak_mib']} MiB in the "
            "script, which keeps its models",
            "the steps that the script does": f"ours {total(half, 'wall s'):.0f} s, {total(half, 'work s'):.0f} s of "
            f"it work; the script {naive_s:.0f} s, {sum(step['work'] for step in steps.values()):.0f} s of it work",
            "settings": ", ".join(BUDGETS),
        },
        write=write,
    )


if __name__ == "__main__":
    main()
