"""What ``ltgc-local status`` prints: a line per step, or numbers for scripts, once or again and again."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ltgc_local.cli import console
from ltgc_local.pipeline.status import StepStatus, describe_progress, run_status
from ltgc_local.runs.disk import redo
from ltgc_local.runs.provenance import read_run_recipe

REDRAW_S = 2.0


def status_as_text(steps: Sequence[StepStatus], out: Path) -> str:
    """Write a line per step, with its warnings below it."""
    width = max(len(step.name) for step in steps)
    lines = []
    for step in steps:
        lines.append(f"{step.name:{width}}  {step.state:8}  {_facts(step, out)}".rstrip())
        lines += [f"{'':{width}}  warning: {warning}" for warning in step.warnings]
    return "\n".join(lines)


def status_as_dict(steps: Sequence[StepStatus]) -> dict[str, Any]:
    """Return numbers by step."""
    return {step.name: {key: value for key, value in asdict(step).items() if key != "name"} for step in steps}


def watch(out: Path) -> None:
    """Redraw a terminal every two seconds, until the run is complete or the user has seen enough."""
    recipe = read_run_recipe(out)
    try:
        while True:
            steps = run_status(recipe, out)
            click.clear()
            console.write(status_as_text(steps, out))
            if all(step.state == "complete" for step in steps):
                return
            time.sleep(REDRAW_S)
    except KeyboardInterrupt:
        console.log("no longer watching; this changes nothing for the run")


def _facts(step: StepStatus, out: Path) -> str:
    if step.state == "waiting":
        return ""
    if step.state == "complete":
        facts = f"{step.items} items, {step.seconds:.1f} s, {step.peak_mib} MiB"
        return facts + (f"; {step.problem}; {redo(out, step.name)}" if step.problem else "")
    facts = describe_progress(step)
    if step.state == "running":
        return facts + (f", {step.peak_mib} MiB" if step.peak_mib else "")
    first = step.problem.partition("\n")[0]
    return f"{facts}; {first + '; ' if first else ''}to resume, type: ltgc-local run {shlex.quote(str(out))}"
