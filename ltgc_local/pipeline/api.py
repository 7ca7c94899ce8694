"""The Python API: load a recipe, plan it, run it, compare runs. Each returns values or raises an ``LtgcError``.

``ltgc_local`` offers these functions, and ``ltgc_local.open_run``, under its own name.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltgc_local.methods.base import Step
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.preparation import Request
from ltgc_local.pipeline.scheduler import run_pipeline
from ltgc_local.recipe import Recipe
from ltgc_local.recipe.loader import load_recipe as read_recipe
from ltgc_local.runs.reader import RunReader, open_run

if TYPE_CHECKING:
    from ltgc_local.comparison import Comparison

__all__ = ["compare", "load_recipe", "open_run", "plan", "run"]

log = logging.getLogger(__name__)


def load_recipe(path: Path | str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and check a recipe, its data folder and its model cards.

    Args:
        path: the YAML file; relative paths in it start at its own folder.
        overrides: dotted key -> value, such as ``{"train.lr": 2e-3}``; relative paths start at the current folder.

    Raises:
        RecipeError: with every problem found, one per line.
        ModelError: a model card is missing or wrong.
    """
    return read_recipe(path, [f"{key}={_as_yaml(value)}" for key, value in (overrides or {}).items()])


def plan(recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps that a recipe runs, in order; each says which steps it reads and which model it needs."""
    return build_plan(recipe)


def run(
    recipe: Recipe,
    out: Path | str | None = None,
    *,
    until: str | None = None,
    redo_from: str | None = None,
    reuse: Sequence[Path | str] = (),
) -> RunReader:
    """Run a recipe, or resume its run: complete steps are skipped, and nothing that was made is overwritten.

    Args:
        out: the run directory; ``runs/<name of the recipe>`` unless given.
        until: the last step to run, such as ``"generated"`` or ``"train"``; all of them unless given.
        redo_from: redo this step and those that follow; what is there is kept under ``superseded``.
        reuse: run directories from which finished steps with equal inputs and settings are taken.

    Returns:
        A reader of the run.

    Raises:
        LtgcError: of the kind of what went wrong; what was complete stays. ``StaleStep`` where the folder was made
            with other settings.
    """
    folder = Path(out) if out is not None else Path("runs") / recipe.name
    command = shlex.join(["ltgc-local", "run", str(folder)])
    request = Request(recipe, folder, command, redo_from, until, tuple(map(Path, reuse)), again=True)
    run_pipeline(request, log.info)
    return open_run(folder)


def compare(
    folders: Sequence[Path | str], *, level: float = 0.95, resamples: int = 2000, validation: bool = False
) -> Comparison:
    """Compare measured runs: accuracies with intervals over seeds, and each method against its control.

    Args:
        folders: run directories, or folders of them.
        level: of the intervals.
        resamples: bootstrap resamples of a run without sibling seeds.
        validation: compare on the validation images, and read nothing of the test images.

    Raises:
        ArtefactError: a folder holds no run, none is measured, or one is damaged.
    """
    from ltgc_local.comparison import compare_runs
    from ltgc_local.methods.registry import COMPARISONS

    paths = [Path(folder) for folder in folders]
    return compare_runs(paths, COMPARISONS, level, resamples, "val" if validation else "test")


def _as_yaml(value: Any) -> str:
    return str(value) if isinstance(value, Path) else json.dumps(value)
