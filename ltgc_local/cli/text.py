"""What is printed for people: plans, results, and what to type when settings have changed.

Values come in, text goes out. Every path in a command to type is quoted for a shell.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ltgc_local.comparison import write_comparison
from ltgc_local.datasets.base import Checked
from ltgc_local.pipeline.fingerprint import StaleStep
from ltgc_local.pipeline.preview import Figures, read_figures
from ltgc_local.pipeline.sweep import Outcome
from ltgc_local.recipe.schema import Data

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
    lines = [
        f"{plan['name']}: {plan['method']} on {plan['benchmark']}, seed {plan['seed']}",
        f"{plan['images']['train']} training images; classes: "
        + ", ".join(f"{n} {s}" for s, n in plan["classes"].items()),
        *(["val is the test split: settings are fixed beforehand, not chosen on it"] if plan["val_is_test"] else []),
        f"to generate: {plan['num_to_draw']} images ({_drawn_by_class(plan['to_draw'])})",
        *(
            f"{role}: {model['card']} ({model['evidence']}, {model['backend']})"
            + (model["note"] and f": {model['note']}")
            for role, model in plan["models"].items()
        ),
        *(f"cannot run yet: {model['problem']}" for model in plan["models"].values() if model["problem"]),
        *(f"memory: {note}" for note in plan["memory"]),
        "",
        *(
            f"{s['name']:{width}}  {model:{roles}}  reads {', '.join(s['reads']) or 'data'}"
            for s, model in zip(plan["steps"], models, strict=True)
        ),
    ]
    return "\n".join(lines)


def _drawn_by_class(to_draw: dict[str, int]) -> str:
    if len(to_draw) <= SHOWN_CLASSES:
        return ", ".join(f"{n} {name}" for name, n in to_draw.items())
    return f"{min(to_draw.values())} to {max(to_draw.values())} for each of {len(to_draw)} tail classes"


def decoded_as_text(data: Data, found: Checked) -> str:
    """Say that every image decodes, and what is done with those that are not plain 8-bit images."""
    lines = [f"{data.root}: {found.images} images, all of them decode"]
    if found.with_alpha:
        lines += [f"{found.with_alpha} have alpha: they are laid on {data.alpha_background} (data.alpha_background)"]
    if found.of_16_bits:
        lines += [f"{found.of_16_bits} have 16 bits: they are scaled to 8"]
    return "\n".join(lines)


def outcome_as_text(outcome: Outcome, to_step: str | None) -> str:
    """Say how a run ended, or several: with their figures, or at the step of ``--to``."""
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
        out: what ``--out`` means to that command: of a table the folder of all its runs.
    """
    place = shlex.quote(str(out))
    return (
        f"{stale}\n"
        f"to redo it and what follows (what is there is kept under {stale.run / 'superseded'}), type:\n"
        f"  {command} --out {place} --from {stale.step.split('/')[0]}\n"
        f"to keep this run and start another, type:\n  {command} --out {shlex.quote(f'{out}-2')}"
    )


def figures_as_text(figures: Figures) -> str:
    """Return a run's table, in percent by arm and group, and where its report is."""
    titles = ARM_TITLES | {figures.method: figures.title}
    lines = [f"{'percent of test images':36}" + "".join(f"{group:>8}" for group in figures.groups)]
    for arm, measured in figures.arms.items():
        cells = "".join(f"{'-':>8}" if value is None else f"{value:8.1f}" for value in measured)
        lines.append(f"{titles.get(arm, arm):36}{cells}")
    again = shlex.join(["ltgc-local", "run", str(figures.root)])
    return "\n".join([*lines, f"report: {figures.report or f'not made yet; type: {again}'}"])
