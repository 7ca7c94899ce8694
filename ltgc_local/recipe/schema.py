"""The recipe: every setting of a run, one frozen block a stage, in pipeline order.

A recipe is of one of the classes in ``VARIANTS``, by ``method``, of TGN also by ``generator``, and of its diffusion by
``diffusion.prompts``. Each class has the blocks, keys and roles that its method uses, and no others.

Defaults live here and nowhere else. Each field's docstring says where its default comes from: [paper] the method's
(LTGC's slides), [released code], or "ours", because LTGC's training code was not released and its slides leave most
values unstated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field
from typing_extensions import TypeVar

from ltgc_local.model_store import ROLES, Role
from ltgc_local.recipe.block import Block, Name
from ltgc_local.recipe.diffusion import DescribedDiffusion, Diffusion
from ltgc_local.recipe.generation import Assess, Describe, Draw, Extend, Leaks, LtgcDescribe, LtgcExtend, Scorer
from ltgc_local.recipe.inputs import (
    DATA_KEYS,
    Data,
    DescribedModels,
    DiffusionModels,
    LtgcModels,
    Models,
    T2iModels,
    TextModels,
    TgnModels,
)
from ltgc_local.recipe.learning import Evaluate, LtgcEvaluate, Report, Train
from ltgc_local.recipe.tgn import Backbone, Cdtg, Classifier, Kmdn, Measure, Merge, Split, TrainingOptions

__all__ = [
    "DATA_KEYS",
    "DISCRIMINATORS",
    "NOT_SHAPING",
    "VARIANTS",
    "Assess",
    "Backbone",
    "Block",
    "Cdtg",
    "Classifier",
    "Data",
    "DescribedRecipe",
    "Diffusion",
    "DiffusionRecipe",
    "Draw",
    "Extend",
    "GanRecipe",
    "Kmdn",
    "Leaks",
    "LtgcRecipe",
    "Measure",
    "Merge",
    "Name",
    "Recipe",
    "RecipeT",
    "Scorer",
    "Split",
    "T2iModels",
    "TextModels",
    "TgnRecipe",
    "Train",
    "TrainingOptions",
    "class_of",
]

DEFAULT_METHOD: Literal["ltgc"] = "ltgc"  # of a recipe that names none
FITTED = ("kmdn", "cdtg", "diffusion", "classifier")  # blocks of TGN's trainings
#: Recipe fields that change how fast a step is, or which steps there are, and not what a step makes.
NOT_SHAPING = {
    "models.decode_threads",
    "draw.batch_size",
    "draw.compile",
    "draw.clip_features",  # the step that has a clip beside its model says so itself
    "assess.batch_size",
    "leaks.enabled",
    "leaks.batch_size",
    "evaluate.batch_size",
    "train.control",
    "train.checkpoint_minutes",
    "train.in_memory_mib",
    "train.decode_workers",
    "cdtg.generate_batch_size",
    "cdtg.compile",
    "diffusion.gradient_checkpointing",
    "diffusion.draw_batch_size",
    "diffusion.accept_batch_size",
    "diffusion.compile",
    "classifier.control",
    "measure.enabled",
    "measure.batch_size",
} | {f"{block}.{field}" for block in FITTED for field in TrainingOptions.model_fields} - {
    f"{block}.precision" for block in FITTED
}


class Recipe(Block):
    """One run: the method, the seed and a block a stage; here what every method has."""

    name: Name = Field(examples=["my_run"])
    """Names the run directory, ``runs/<name>``. Ours."""
    method: Literal["ltgc", "tgn"] = DEFAULT_METHOD
    """The paper whose stages run: LTGC (CVPR 2024) or TGN (TGRS 2024). Ours."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Every item's seed is made from this and the item's name. Ours."""
    data: Data
    """Which images. Ours."""
    models: Models
    """Which models, and on what. Ours."""
    leaks: Leaks = Leaks()
    """Duplicates among generated, training and test images. Ours."""
    evaluate: Evaluate = Evaluate()
    """Accuracies by group [paper, evaluation setup]."""
    report: Report = Report()
    """Ours."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that the recipe names a model for."""
        return tuple(role for role in ROLES if getattr(self.models, role, None) is not None)

    @property
    def selections(self) -> dict[str, str]:
        """The keys that say how an epoch is chosen, with their values."""
        return {}

    @property
    def t2i_decoder(self) -> Literal["tiny"] | None:
        """What decodes in place of the t2i's own VAE."""
        return None

    @property
    def t2i_compile(self) -> Literal["none", "regional", "full"] | None:
        """What torch compiles of the t2i while it draws."""
        return None

    @property
    def draws_by_diffusion(self) -> bool:
        """Whether this is "TGN-style, diffusion"."""
        return isinstance(self, DiffusionRecipe)

    def dump(self) -> dict[str, Any]:
        """Return every setting, defaults included, as plain JSON values (paths absolute), in pipeline order."""
        dumped = self.model_dump(mode="json")
        return {key: dumped[key] for key in sorted(dumped, key=("leaks", "evaluate", "report").__contains__)}


#: A class of recipes, for what is of one method; what names none takes any.
RecipeT = TypeVar("RecipeT", bound=Recipe, default=Any)


class LtgcRecipe(Recipe):
    """LTGC: describe, extend, draw, assess, and fine-tune CLIP on the mixture."""

    method: Literal["ltgc"] = "ltgc"
    models: LtgcModels
    describe: LtgcDescribe = LtgcDescribe()
    """Prompt 1 [paper, step 1]."""
    extend: LtgcExtend = LtgcExtend()
    """Prompts 2 and 3 [paper, step 2]."""
    draw: Draw = Draw()
    """Text to image [paper, step 3]."""
    assess: Assess = Assess()
    """Prompts 4 and 5, detection and refinement [paper, step 3]."""
    train: Train = Train()
    """BalanceMix and LoRA [paper, step 4]."""
    evaluate: LtgcEvaluate = LtgcEvaluate()

    @property
    def selections(self) -> dict[str, str]:
        return {"train.select": self.train.select}

    @property
    def t2i_decoder(self) -> Literal["tiny"] | None:
        return self.draw.decoder

    @property
    def t2i_compile(self) -> Literal["none", "regional", "full"] | None:
        return self.draw.compile

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.draw.clip_features and not self.assess.enabled:
            yield "draw.clip_features", "has no effect where assess.enabled is false: nothing is scored; remove it"
        if self.train.batch_size % (self.models.workers * self.train.accumulation_steps) and self.models.workers > 1:
            each = self.models.workers * self.train.accumulation_steps
            yield (
                "train.batch_size",
                f"{self.train.batch_size} pairs cannot be shared evenly by {self.models.workers} workers in "
                f"{self.train.accumulation_steps} parts; write {-(-self.train.batch_size // each) * each}",
            )
        existing = min(self.describe.max_images_per_class, self.describe.tail_below - 1)
        if self.extend.source == "llm" and (problem := self.extend.problem_of_number(existing)):
            yield "extend.max_descriptions", problem


class TgnRecipe(Recipe):
    """TGN: head and tail, two networks that teach each other, a generator of tail images, and a classifier."""

    method: Literal["tgn"] = "tgn"
    models: TgnModels
    split: Split = Split()
    """Head and tail [paper]."""
    kmdn: Kmdn = Kmdn()
    """Two networks that teach each other [paper]."""
    generator: Literal["wavelet_gan", "diffusion"] = "wavelet_gan"
    """What makes tail images: the GAN of ``cdtg`` [paper], or SDXL by ``diffusion``, which is no longer TGN but in its
    style. Ours: the choice."""
    merge: Merge = Merge()
    """How many generated images each class gets [paper]."""
    classifier: Classifier = Classifier()
    """The network that is trained on originals and generated images [paper]."""
    measure: Measure = Measure()
    """Distance, diversity and consistency of the generated images. Ours."""

    @property
    def selections(self) -> dict[str, str]:
        return {"kmdn.select": self.kmdn.select, "classifier.select": self.classifier.select}

    def conflicts(self) -> Iterator[tuple[str, str]]:
        fewest = 2 * self.models.workers
        for path, number in (
            ("kmdn.batch_size", self.kmdn.batch_size),
            ("kmdn.distill_batch_size", self.kmdn.distill_batch_size),
            ("classifier.batch_size", self.classifier.batch_size),
        ):
            if number < fewest:
                yield (
                    path,
                    f"{number} images leave one of {self.models.workers} workers fewer than the 2 that batch norm "
                    f"needs; write {fewest}",
                )


class GanRecipe(TgnRecipe):
    """TGN as its paper has it, with its own generator."""

    generator: Literal["wavelet_gan"] = "wavelet_gan"
    cdtg: Cdtg = Cdtg()
    """The generator of tail images [paper]."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        number, workers = self.cdtg.batch_size, self.models.workers
        if number % workers:
            even = -(-number // workers) * workers
            yield "cdtg.batch_size", f"{number} images cannot be shared evenly by {workers} workers; write {even}"


class DiffusionRecipe(TgnRecipe):
    """TGN-style, diffusion: SDXL with a LoRA on the tail classes draws them."""

    models: DiffusionModels
    generator: Literal["diffusion"] = "diffusion"
    diffusion: Diffusion = Diffusion()
    """The generator, and what an image must pass. Ours."""

    @property
    def t2i_compile(self) -> Literal["none", "regional", "full"] | None:
        return self.diffusion.compile


class DescribedRecipe(DiffusionRecipe):
    """The same, drawn from descriptions that LTGC's text models write."""

    models: DescribedModels
    describe: Describe = Describe()
    """Prompt 1 [paper: LTGC's, step 1]."""
    extend: Extend = Extend()
    """Prompts 2 and 3 [paper: LTGC's, step 2]."""
    diffusion: DescribedDiffusion = DescribedDiffusion()

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if problem := self.extend.problem_of_number(self.describe.max_images_per_class):
            yield "extend.max_descriptions", problem


VARIANTS: tuple[type[Recipe], ...] = (LtgcRecipe, GanRecipe, DiffusionRecipe, DescribedRecipe)
#: Where a recipe says which class it is of.
DISCRIMINATORS = (("method",), ("generator",), ("diffusion", "prompts"))


def class_of(written: Mapping[str, Any]) -> type[Recipe]:
    """Return the class of ``VARIANTS`` that a recipe is of, whatever else is wrong with it.

    Args:
        written: its plain values, by block.
    """
    if written.get("method") != "tgn":
        return LtgcRecipe
    if written.get("generator") != "diffusion":
        return GanRecipe
    settings = written.get("diffusion")
    prompts = settings.get("prompts") if isinstance(settings, Mapping) else None
    return DescribedRecipe if prompts == "descriptions" else DiffusionRecipe
