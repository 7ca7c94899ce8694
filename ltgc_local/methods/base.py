"""What a method is to the core, which names none: its steps, its tail, its budget, and its words in tables and reports.

A method is a folder under ``methods`` with a ``Method`` in its ``method.py``, and a line in ``methods.registry``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal

from ltgc_local.comparison.compared import MethodComparison
from ltgc_local.datasets import Corpus
from ltgc_local.model_store.cards import Role
from ltgc_local.recipe import RecipeT
from ltgc_local.reporting.reported import MethodReport

#: How a step's workers share it: one process does all of it; its chunks know nothing of each other, so that several
#: workers can share them; or workers take their share of every batch, and the first writes what they make.
Parallel = Literal["alone", "chunks", "distributed"]


@dataclass(frozen=True)
class StageSpec:
    """A module under ``methods`` that does a step's work, and how workers share it."""

    module: str
    parallel: Parallel = "alone"


@dataclass(frozen=True)
class Step:
    """One process: a stage, the steps that it reads, its model if any, and the recipe fields that shape its output."""

    name: str
    stage: StageSpec
    reads: tuple[str, ...] = ()
    model_role: Role | None = None
    settings: tuple[str, ...] = ()  # a block (kmdn), a part of one (kmdn:distill), a field (kmdn.feature)
    ignores: tuple[str, ...] = ()  # fields of those blocks that shape other steps and not this one
    co_resident: Role | None = None  # a second model, held in memory with the first where a recipe asks for it
    arm: str = ""  # of a training: what it is called in the figures
    is_seeded: bool = True  # whether the run's seed shapes its output

    @property
    def is_report(self) -> bool:
        """Whether the step writes the page about the run: nothing reads it, and it is never taken from another run."""
        return self.stage == REPORT


#: Stages that every method shares.
FINGERPRINT_IMAGES = StageSpec("stages.fingerprint_images", "chunks")
COMPARE_IMAGES = StageSpec("stages.compare_images")
REPORT = StageSpec("stages.report")


def leak_guard() -> list[Step]:
    """Return the steps that look for equal and near-duplicate images; runs on the same data share the originals'."""
    reads = ("generated", "leaks/originals", "leaks/generated")
    return [
        Step(
            "leaks/originals",
            FINGERPRINT_IMAGES,
            (),
            "clip",
            ("leaks:originals",),
            is_seeded=False,
        ),
        Step("leaks/generated", FINGERPRINT_IMAGES, ("generated",), "clip"),
        Step("leaks/compare", COMPARE_IMAGES, reads, None, ("leaks:compare",)),
    ]


@dataclass(frozen=True)
class Method(Generic[RecipeT]):
    """A paper's method.

    Attributes:
        name: what recipes call it, and what its own arm is called in the figures.
        plan: recipe -> the steps, in the order in which they run.
        tail: the ids of the classes that get generated images, ascending, from training counts alone.
        budget: class id -> number of images to generate.
        untrained: the architectures that a recipe trains from random numbers, which every report must say.
    """

    name: str
    plan: Callable[[RecipeT], tuple[Step, ...]]
    tail: Callable[[Corpus, RecipeT], list[int]]
    budget: Callable[[Corpus, RecipeT], dict[int, int]]
    report: MethodReport[RecipeT]
    comparison: MethodComparison
    untrained: Callable[[RecipeT], tuple[str, ...]] = field(default=lambda _: ())
