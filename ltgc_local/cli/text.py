"""What is printed for people: plans, status, results, and what to type when settings have changed.

Values come in, text goes out. Every path in a command to type is quoted for the shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltgc_local.comparison import write_comparison
from ltgc_local.datasets.base import Checked
from ltgc_local.pipeline.fingerprint import StaleStep
from ltgc_local.pipeline.preview import Figures, read_figures
from ltgc_local.pipeline.repair import Repaired
from ltgc_local.pipeline.status import StepStatus, describe_progress
from ltgc_local.pipeline.summary import GENERATED, RunSummary
from ltgc_local.pipeline.sweep import Outcome
from ltgc_local.recipe.inputs import Data
from ltgc_local.reporting.render import duration, energy, size
from ltgc_local.runs.disk import repair
from ltgc_local.runs.schemas import Costs

SHOWN_CLASSES = 20  # in the text of a plan; the JSON has them all
ARM_TITLES = {
    "zero_shot": "CLIP zero-shot",
    "vlm_zero_shot": "vlm asked for the class (a sample)",
    "control": "the same, no generated data",
}


def plan_as_text(plan: dict[str, Any]) -> str:
    """Word what ``plan_as_dict`` returns."""
    width = max(len(step["name"]) for step in plan["steps"])
    models = ["+".join(filter(None, (step["model"], step["co_resident"]))) or "-" for step in plan["steps"]]
    roles = max(map(len, models))
    numbers = plan["to_draw"]
    by_class = ", ".join(f"{number} {name}" for name, number in numbers.items())
    if len(numbers) > SHOWN_CLASSES:
        by_class = f"{min(numbers.values())} to {max(numbers.values())} for each of {len(numbers)} tail classes"
    classes = ", ".join(f"{number} {shot}" for shot, number in plan["classes"].items())
    lines = [
        f"{plan['name']}: {plan['method']} on {plan['benchmark']}, seed {plan['seed']}",
        f"{plan['images']['train']} training images; classes: {classes}",
    ]
    if plan["val_is_test"]:
        lines.append("val is the test split: settings are fixed beforehand, not chosen on it")
    lines.append(f"to generate: {plan['num_to_draw']} images ({by_class})")
    for role, model in plan["models"].items():
        note = f": {model['note']}" if model["note"] else ""
        lines.append(f"{role}: {model['card']} ({model['evidence']}, {model['backend']}){note}")
    lines += [f"cannot run yet: {model['problem']}" for model in plan["models"].values() if model["problem"]]
    lines += [f"memory: {note}" for note in plan["memory"]]
    lines.append("")
    for step, model in zip(plan["steps"], models, strict=True):
        lines.append(f"{step['name']:{width}}  {model:{roles}}  reads {', '.join(step['reads']) or 'data'}")
    return "\n".join(lines)


def decoded_as_text(data: Data, found: Checked) -> str:
    """Say that every image decodes, and how those that are not plain 8-bit images are converted."""
    lines = [f"{data.root}: {found.images} images, all of them decode"]
    if found.with_alpha:
        lines += [
            f"{found.with_alpha} have alpha: they are composited onto {data.alpha_background} (data.alpha_background)"
        ]
    if found.of_16_bits:
        lines += [f"{found.of_16_bits} have 16 bits: they are scaled to 8"]
    return "\n".join(lines)


def status_as_dict(steps: Sequence[StepStatus], summary: RunSummary, jobs: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``status --json`` prints: the run as a whole, and its steps by name, with what SLURM says of each."""

    def values(status: StepStatus | RunSummary) -> dict[str, Any]:
        return vars(status) | {"costs": status.costs.model_dump() if status.costs is not None else None}

    return values(summary) | {"steps": {step.name: values(step) | {"slurm": jobs.get(step.name)} for step in steps}}


def status_as_text(steps: Sequence[StepStatus], summary: RunSummary, out: Path, jobs: Mapping[str, str]) -> str:
    """Write a line per step, with its warnings and its jobs below it, and what the run has cost so far.

    Args:
        jobs: step -> what SLURM says about its jobs.
    """
    width = max(len(step.name) for step in steps)
    lines = []
    for step in steps:
        lines.append(f"{step.name:{width}}  {step.state:8}  {_progress(step, out)}".rstrip())
        lines += [f"{'':{width}}  warning: {warning}" for warning in step.warnings]
        lines += [f"{'':{width}}  {jobs[step.name]}"] if step.name in jobs else []
    if summary.missing:
        lines.append(
            f"finished with {summary.missing} of {summary.wanted} images missing; the reasons are in "
            f"{out / GENERATED}/excluded-*.jsonl, and in the warnings"
        )
    if summary.costs.bytes:
        lines.append(f"costs so far: {costs_as_text(summary.costs)}")
    return "\n".join(lines)


def costs_as_text(costs: Costs) -> str:
    """Write costs in one line, without those that are nothing."""
    parts = [f"{duration(costs.cpu_seconds)} of CPU time"]
    if costs.gpu_seconds:
        parts.append(f"{costs.gpu_seconds / 3600:.2f} GPU-hours")
    if costs.gpu_joules is not None:
        parts.append(f"{energy(costs.gpu_joules)} on the GPUs")
    if costs.tokens_read:
        parts.append(f"{costs.tokens_read:,} tokens read, {costs.tokens_written:,} written")
    parts.append(f"{size(costs.bytes)} of files")
    return ", ".join(parts)


def _progress(step: StepStatus, out: Path) -> str:
    if step.state == "waiting":
        return ""
    if step.state == "complete":
        facts = f"{step.items} items, {step.seconds:.1f} s, {step.peak_mib} MiB"
        return facts + (f"; {step.problem}; {repair(out)}" if step.problem else "")
    facts = describe_progress(step)
    if step.state == "running":
        return facts + (f", {step.peak_mib} MiB" if step.peak_mib else "")
    first = step.problem.partition("\n")[0]
    return f"{facts}; {first + '; ' if first else ''}to resume, type: ltgc-local run {shlex.quote(str(out))}"


def repaired_as_text(done: Repaired, out: Path, dependents: bool) -> str:
    """Say what was repaired, and what is left to do.

    Args:
        dependents: whether the steps that were made from the old files have been redone.
    """
    place = shlex.quote(str(out))
    number = "1 file was" if len(done.files) == 1 else f"{len(done.files)} files were"
    lines = [f"{out}: {number} damaged, and made again" if done.files else f"{out}: nothing is damaged"]
    if done.resuming:
        lines = [f"{out}: {number} damaged; to make again what {', '.join(done.resuming)} lacks, type:"]
        lines.append(f"  ltgc-local run {place}")
    for step, readers in done.outdated.items():
        how = "have been redone" if dependents else "are out of date"
        lines.append(
            f"{step}: is not the same as before; the steps made from the old files {how}: {', '.join(readers)}"
        )
    if done.outdated and not dependents:
        lines += ["to redo them and what depends on them, type:", f"  ltgc-local repair {place} --dependents"]
    return "\n".join(lines)


def outcome_as_text(outcome: Outcome, to_step: str | None) -> str:
    """Say how one or several runs ended: with their figures, or at the step of ``--to``."""
    if not outcome.is_whole:
        return f"{outcome.root}: done up to {to_step}"
    if outcome.comparison is None:
        return figures_as_text(read_figures(outcome.root))
    table = write_comparison(outcome.comparison, "markdown")
    return f"{table}\nalso: {outcome.root / 'comparison.html'}, .csv, .tex, .md"


def stale_as_text(stale: StaleStep, command: str, out: Path) -> str:
    """Say what changed, and the two commands that resolve it.

    Args:
        command: what the user typed, without ``--out``, ``--from`` and ``--reuse``.
        out: what ``--out`` means to that command: for a table, the folder of all its runs.
    """
    place = shlex.quote(str(out))
    return (
        f"{stale}\n"
        f"to redo it and what follows (the present files are kept under {stale.run / 'superseded'}), type:\n"
        f"  {command} --out {place} --from {stale.step.split('/')[0]}\n"
        f"to keep this run and start another, type:\n  {command} --out {shlex.quote(f'{out}-2')}"
    )


def figures_as_text(figures: Figures) -> str:
    """Return a run's table, in percent by arm and group, and where its report is."""
    titles = ARM_TITLES | {figures.method: figures.title}
    lines = [f"{'percent of test images':36}" + "".join(f"{group:>8}" for group in figures.groups)]
    for arm, measured in figures.arms.items():
        cells = "".join(f"{'-':>8}" if value is None else f"{value:8.1f}" for value in measured)
        whole, _, part = arm.partition("_")  # an ensemble's parts: control_1, ltgc_2, ltgc_ensemble
        title = titles.get(arm, f"{figures.title if whole == figures.method else whole} {part}".strip())
        lines.append(f"{title:36}{cells}")
    again = shlex.join(["ltgc-local", "run", str(figures.root)])
    return "\n".join([*lines, f"report: {figures.report or f'not made yet; type: {again}'}"])
