"""What a method is to the core, which names none: its steps, its tail, its budget, and its words in tables and reports.

A method is a folder under ``methods`` with a ``Method`` in its ``method.py``, and a line in ``methods.registry``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias

from ltgc_local.comparison.method_comparison import MethodComparison
from ltgc_local.datasets import Corpus
from ltgc_local.model_store.cards import Role
from ltgc_local.recipe import RecipeT
from ltgc_local.reporting.method_report import MethodReport

#: How a step's workers share it: one process does all of it; its chunks know nothing of each other, so that several
#: workers can share them; or workers take their share of every batch, and the first writes what they make.
Parallel = Literal["alone", "chunks", "distributed"]


@dataclass(frozen=True)
class StageSpec:
    """The class that does a step's work, ``module:Class`` under ``methods``, and how workers share it.

    Planning imports no stage: they need the model libraries.
    """

    entry: str
    parallel: Parallel = "alone"


Inputs: TypeAlias = "Mapping[str, tuple[Step, ...]]"  # what the stage calls them -> the steps that it reads


@dataclass(frozen=True)
class Step:
    """One process: a stage, the steps that it reads, its model if any, and the recipe fields that shape its output.

    Attributes:
        settings: a block (kmdn), a part of one (kmdn:distill), a field (kmdn.feature).
        ignores: fields of those blocks that shape other steps and not this one.
        co_resident: a second model, held in memory with the first where a recipe asks for it.
        arm: of a training and of its predictions: what it is called in the figures.
        options: what sets this step apart from others of the same stage.
        is_seeded: whether the run's seed shapes its output.
        overrides: dotted recipe fields that the step has values of its own for.
    """

    name: str
    stage: StageSpec
    inputs: Inputs = field(default_factory=dict, repr=False, hash=False)
    model_role: Role | None = None
    settings: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    co_resident: Role | None = None
    arm: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    is_seeded: bool = True
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def recipe(self, recipe: RecipeT) -> RecipeT:
        """Return the recipe that the step works by."""
        return recipe.override(self.overrides) if self.overrides else recipe

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the steps that it reads."""
        return tuple(dict.fromkeys(step.name for steps in self.inputs.values() for step in steps))

    @property
    def is_reseeded(self) -> bool:
        """Whether it is a training that is evaluated, whose seed is ``train_seed`` where a recipe gives one."""
        return bool(self.arm) and self.is_seeded

    @property
    def is_report(self) -> bool:
        """Whether the step writes the page about the run: nothing reads it, and it is never taken from another run."""
        return self.stage == REPORT


#: Stages that every method shares.
FINGERPRINT_ORIGINALS = StageSpec("stages.fingerprint_images:FingerprintOriginals", "chunks")
FINGERPRINT_GENERATED = StageSpec("stages.fingerprint_images:FingerprintGenerated", "chunks")
COMPARE_IMAGES = StageSpec("stages.compare_images:CompareImagesStage", "chunks")
REPORT = StageSpec("stages.report:ReportStage")


def leak_guard(generated: Step) -> list[Step]:
    """Return the steps that look for equal and near-duplicate images; runs on the same data share the originals'."""
    originals = Step("leaks/originals", FINGERPRINT_ORIGINALS, {}, "clip", ("leaks:originals",), is_seeded=False)
    others = Step("leaks/generated", FINGERPRINT_GENERATED, {"generated": (generated,)}, "clip")
    inputs = {"generated": (generated,), "originals' fingerprints": (originals,), "generated fingerprints": (others,)}
    return [originals, others, Step("leaks/compare", COMPARE_IMAGES, inputs, None, ("leaks:compare",))]


def report_on(*steps: Step) -> Step:
    """Return the step that writes the page about ``steps``."""
    return Step("report", REPORT, {"steps": steps}, None, ("report",))


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
