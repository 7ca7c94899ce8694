"""The progress of a run, step by step, read from manifests, chunks, metrics, logs and the lock; writes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe
from ltgc_local.reporting.render import duration
from ltgc_local.runs.costs import costs_of
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.lock import is_held
from ltgc_local.runs.logs import read_messages
from ltgc_local.runs.metrics import TAIL_BYTES, MetricsLine, metrics_path, read_metrics
from ltgc_local.runs.schemas import Costs

State = Literal["waiting", "running", "complete", "stopped"]
MAX_WORKERS = 1000  # whose metrics are read
FRESH_S = 30.0  # a worker that has not reported for longer than another has ended
MAX_SECONDS = 1e9  # more are not believed to be left


@dataclass(frozen=True)
class StepStatus:
    """One step. A ``stopped`` one has begun, is not complete, and no launcher is working on it.

    Attributes:
        items: items done; those of an incomplete chunk are lost if the step is stopped.
        total: None if it is not known.
        rate: recent items per second; for a complete step the average, including start-up and loading.
        seconds: since the step was started or resumed; for a complete step the total.
        problem: what stopped it, or what is wrong with its files; empty if nothing is known.
        warnings: by the method, such as a class without images.
        costs: of the chunks that are complete; None if they do not say.
    """

    name: str
    state: State
    items: int = 0
    total: int | None = None
    rate: float | None = None
    seconds: float | None = None
    seconds_left: float | None = None
    peak_mib: int | None = None
    problem: str = ""
    warnings: tuple[str, ...] = ()
    costs: Costs | None = None


@dataclass(frozen=True)
class StepProgress:
    """What a step's workers last reported, taken together."""

    items: int
    total: int
    rate: float
    seconds: float
    peak_mib: int
    started: float  # by the first worker, in seconds since 1970

    @property
    def seconds_left(self) -> float | None:
        """The time left at this rate; None if the rate says nothing."""
        left = (self.total - self.items) / self.rate if self.rate > 0 else math.inf
        return left if 0 <= left < MAX_SECONDS else None


def run_status(recipe: Recipe, out: Path) -> tuple[StepStatus, ...]:
    """Return the status of every step, in the order of the plan.

    Raises:
        ArtefactError: a manifest is damaged.
    """
    run, held = RunDirectory(out), is_held(out)
    found: dict[str, StepStatus] = {}
    for step in build_plan(recipe):
        is_next = held and all(found[name].state == "complete" for name in step.reads)
        found[step.name] = _complete(run, step.name) or _incomplete(run, step.name, is_next)
    return tuple(found.values())


def read_progress(run: RunDirectory, step: str) -> StepProgress | None:
    """Return the progress that a step's workers reported; None before they report anything.

    The items of complete chunks are counted once, whoever made them; of the others only what living workers say counts.
    """
    folder = run.folder(step)
    paths = [metrics_path(folder), *sorted((folder / "logs").glob("metrics-*.jsonl"))[:MAX_WORKERS]]
    lines = [line for line in map(_last_line, paths) if line is not None]
    if not lines:
        return None
    newest = max(line.time for line in lines)
    lines = [line for line in lines if (newest - line.time).total_seconds() < FRESH_S]
    sizes = run.chunk_sizes(step)
    items, total = _sum(lines[:1], "items"), _sum(lines[:1], "total")
    if sizes is not None:
        items, total = sizes.complete + _sum(lines, "in_chunk"), sizes.total
    started = min(line.time.timestamp() - line.values.get("seconds", 0.0) for line in lines)
    seconds = newest.timestamp() - started
    peak = int(max(line.values.get("peak_mib", 0) for line in lines))
    return StepProgress(int(items), int(total), _sum(lines, "items_per_second"), seconds, peak, started)


def describe_progress(found: StepProgress | StepStatus, after: float | None = None) -> str:
    """Write items, rate and time left for people: ``128 of 2400 items after 41.0 s, 3.2 items/s, 11 min 50 s left``."""
    items = f"{found.items} items" if found.total is None else f"{found.items} of {found.total} items"
    words = [items if after is None else f"{items} after {duration(after)}"]
    if found.rate:
        words.append(f"{found.rate:.3g} items/s")
    if found.seconds_left is not None:
        words.append(f"{duration(found.seconds_left)} left")
    return ", ".join(words)


def describe_change(run: RunDirectory, step: str) -> str:
    """Return in words how many of a complete step's files are gone or changed; "" for none."""
    changed = run.find_changed(step)
    if not changed:
        return ""
    number = "1 file is" if len(changed) == 1 else f"{len(changed)} files are"
    return f"{number} gone or changed, such as {changed[0]}"


def _complete(run: RunDirectory, step: str) -> StepStatus | None:
    manifest = run.manifest(step)
    if manifest is None:
        return None
    items, seconds = manifest.items, manifest.wall_seconds
    rate = items / seconds if items > 1 and seconds else None
    problem, warnings = describe_change(run, step), tuple(manifest.warnings)
    peak, costs = manifest.peak_mib, manifest.costs
    return StepStatus(step, "complete", items, items, rate, seconds, None, peak, problem, warnings, costs)


def _incomplete(run: RunDirectory, step: str, is_next: bool) -> StepStatus:
    chunks = run.complete_chunks(step).values()
    if not chunks and run.begun(step) is None:
        return StepStatus(step, "waiting")
    folder = run.folder(step)
    state: State = "running" if is_next else "stopped"
    messages, progress = read_messages(folder), read_progress(run, step)
    warnings = tuple(message.text for message in messages if message.level == "warning")
    started = progress.started - 1 if progress is not None else 0.0  # an error from before that has been dealt with
    errors = [m.text for m in messages if m.level == "error" and m.time.timestamp() >= started]
    problem = errors[-1] if errors and not is_next else ""
    costs = costs_of(chunks)
    if progress is None:
        items = sum(chunk.items for chunk in chunks)
        return StepStatus(step, state, items, problem=problem, warnings=warnings, costs=costs)
    rate, left = (progress.rate, progress.seconds_left) if is_next else (None, None)
    return StepStatus(
        step, state, progress.items, progress.total, rate, progress.seconds, left, progress.peak_mib, problem, warnings,
        costs,
    )  # fmt: skip


def _last_line(path: Path) -> MetricsLine | None:
    lines = read_metrics(path, TAIL_BYTES)
    return next((line for line in reversed(lines) if "items" in line.values), None)


def _sum(lines: Sequence[MetricsLine], name: str) -> float:
    return sum(line.values.get(name, 0) for line in lines)
