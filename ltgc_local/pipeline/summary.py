"""A run as a whole: whether it is complete, how many images it lacks all the same, and what it has cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ltgc_local.datasets import open_corpus
from ltgc_local.errors import DataError, TryAgain
from ltgc_local.methods.registry import method_of
from ltgc_local.pipeline.status import StepStatus
from ltgc_local.recipe import Recipe
from ltgc_local.runs.costs import add_costs
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.schemas import Costs

GENERATED = "generated"  # every method's step that holds the images which train
#: What ``status --exit-code`` ends with, beside 0 and the codes of errors.
COMPLETE, LACKS_IMAGES, NOT_COMPLETE = 0, 7, TryAgain.exit_code


@dataclass(frozen=True)
class RunSummary:
    """A run as a whole.

    Attributes:
        wanted: images that the budget of the recipe asks for; None until all steps are complete, or without the data.
        missing: how many of them there are not: what was generated for them was refused, or nothing was.
        costs: of all steps so far, those included that were taken from another run.
    """

    is_complete: bool
    wanted: int | None
    missing: int | None
    costs: Costs

    @property
    def exit_code(self) -> int:
        if not self.is_complete:
            return NOT_COMPLETE
        return LACKS_IMAGES if self.missing else COMPLETE


def summarize_run(recipe: Recipe, out: Path, steps: Sequence[StepStatus]) -> RunSummary:
    """Sum up the status of a run's steps.

    Raises:
        ArtefactError: a manifest is damaged.
    """
    costs = add_costs(step.costs for step in steps if step.costs is not None)
    is_complete = all(step.state == "complete" for step in steps)
    wanted = missing = None
    manifest = RunDirectory(out).manifest(GENERATED) if is_complete else None
    if manifest is not None and manifest.costs is not None and (wanted := _count_wanted(recipe)) is not None:
        missing = max(0, wanted - manifest.costs.images)
    return RunSummary(is_complete, wanted, missing, costs)


def _count_wanted(recipe: Recipe) -> int | None:
    try:
        corpus = open_corpus(recipe.data)
    except DataError:  # a run may be looked at where its data are not
        return None
    return sum(method_of(recipe).budget(corpus, recipe).values())
