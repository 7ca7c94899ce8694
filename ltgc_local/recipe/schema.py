"""The recipe: every setting of a run, one frozen block a stage, in pipeline order.

A recipe is of one of the classes in ``VARIANTS``, by ``method``, of TGN also by ``generator``, and of its diffusion by
``diffusion.prompts``. Each class has the blocks, keys and roles that its method uses, and no others.

Defaults live here and nowhere else, and so does where each comes from (``markers.Source``): LTGC's slides, the paper
that they are of, leave most values unstated, and its training code was not released; of TGN see ``recipe.tgn``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypeVar

from ltgc_local.model_store.cards import ROLES, Role
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
)  # fmt: skip
from ltgc_local.recipe.learning import Evaluate, ImageTraining, LtgcEvaluate, Report, Train, TrainingOptions
from ltgc_local.recipe.markers import PAPER
from ltgc_local.recipe.tgn import Backbone, Cdtg, Classifier, Kmdn, Measure, Merge, Split

__all__ = [
    "DATA_KEYS", "DEFAULT_METHOD", "DISCRIMINATORS", "VARIANTS", "Assess", "Backbone", "Block", "Cdtg",
    "Classifier", "Data", "DescribedRecipe", "Diffusion", "DiffusionRecipe", "Draw", "Extend", "GanRecipe",
    "ImageTraining", "Kmdn", "Leaks", "LtgcRecipe", "Measure", "Merge", "Name", "Recipe", "RecipeT", "Scorer",
    "Split", "T2iModels", "TextModels", "TgnRecipe", "Train", "TrainingOptions", "class_of",
]  # fmt: skip


DEFAULT_METHOD: Literal["ltgc"] = "ltgc"  # of a recipe that names none


class Recipe(Block):
    """One run: the method, the seed and a block a stage; here what every method has."""

    name: Name = Field(examples=["my_run"])
    """Names the run directory, ``runs/<name>``."""
    method: Literal["ltgc", "tgn"] = DEFAULT_METHOD
    """The paper whose stages run: LTGC (CVPR 2024) or TGN (TGRS 2024)."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Every item's seed is made from this and the item's name."""
    data: Data
    """Which images."""
    models: Models
    """Which models, and on what."""
    leaks: Leaks = Leaks()
    """Duplicates among generated, training and test images."""
    evaluate: Annotated[Evaluate, PAPER] = Evaluate()
    """Accuracies by group."""
    report: Report = Report()
    """The HTML report."""

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

    def dump(self) -> dict[str, Any]:
        """Return every setting, defaults included, as plain JSON values (paths absolute), in pipeline order."""
        dumped = self.model_dump(mode="json")
        return {key: dumped[key] for key in sorted(dumped, key=("leaks", "evaluate", "report").__contains__)}


#: A class of recipes, for what is of one method; what names none takes any.
RecipeT = TypeVar("RecipeT", bound=Recipe, default=Any)


class LtgcRecipe(Recipe):
    """LTGC: describe, extend, draw, assess, and fine-tune CLIP on the mixture."""

    method: Literal["ltgc"] = DEFAULT_METHOD
    models: LtgcModels
    describe: Annotated[LtgcDescribe, PAPER] = LtgcDescribe()
    """Prompt 1, LTGC's step 1."""
    extend: Annotated[LtgcExtend, PAPER] = LtgcExtend()
    """Prompts 2 and 3, LTGC's step 2."""
    draw: Annotated[Draw, PAPER] = Draw()
    """Text to image, step 3."""
    assess: Annotated[Assess, PAPER] = Assess()
    """Prompts 4 and 5, detection and refinement, step 3."""
    train: Annotated[Train, PAPER] = Train()
    """BalanceMix and LoRA, step 4."""
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
    split: Annotated[Split, PAPER] = Split()
    """Head and tail."""
    kmdn: Annotated[Kmdn, PAPER] = Kmdn()
    """Two networks that teach each other."""
    generator: Annotated[Literal["wavelet_gan", "diffusion"], PAPER] = "wavelet_gan"
    """What makes tail images: the GAN of ``cdtg``, or SDXL by ``diffusion``, which is no longer TGN but in its
    style."""
    merge: Annotated[Merge, PAPER] = Merge()
    """How many generated images each class gets."""
    classifier: Annotated[Classifier, PAPER] = Classifier()
    """The network that is trained on originals and generated images."""
    measure: Measure = Measure()
    """Distance, diversity and consistency of the generated images."""

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
    cdtg: Annotated[Cdtg, PAPER] = Cdtg()
    """The generator of tail images."""

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
    """The generator, and what an image must pass."""

    @property
    def t2i_compile(self) -> Literal["none", "regional", "full"] | None:
        return self.diffusion.compile


class DescribedRecipe(DiffusionRecipe):
    """The same, drawn from descriptions that LTGC's text models write."""

    models: DescribedModels
    describe: Annotated[Describe, PAPER] = Describe()
    """Prompt 1, LTGC's step 1."""
    extend: Annotated[Extend, PAPER] = Extend()
    """Prompts 2 and 3, LTGC's step 2."""
    diffusion: DescribedDiffusion = DescribedDiffusion()

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from super().conflicts()
        if problem := self.extend.problem_of_number(self.describe.max_images_per_class):
            yield "extend.max_descriptions", problem


#: Where a recipe says which class it is of, and the classes by what it says there.
DISCRIMINATORS = (("method",), ("generator",), ("diffusion", "prompts"))
VARIANTS: dict[tuple[str, ...], type[Recipe]] = {
    ("ltgc",): LtgcRecipe,
    ("tgn", "wavelet_gan"): GanRecipe,
    ("tgn", "diffusion", "classes"): DiffusionRecipe,
    ("tgn", "diffusion", "descriptions"): DescribedRecipe,
}


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
