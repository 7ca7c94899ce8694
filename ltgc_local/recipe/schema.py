"""The recipe: every setting of a run, one frozen block per stage, in pipeline order.

A recipe belongs to one of the classes in ``VARIANTS``, chosen by ``method``, for TGN also by ``generator``, and for its
diffusion by ``diffusion.prompts``. Each class has the blocks, keys and roles that its method uses, and no others.

Defaults are stated only here and in the blocks' modules, and so is where each comes from (``markers.Source``). LTGC's
slides leave most values unstated, and its training code was not released; for TGN see ``recipe.tgn``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from typing_extensions import TypeVar

from ltgc_local.model_store.cards import ROLES, Role
from ltgc_local.recipe.block import Block, Conflict, Name
from ltgc_local.recipe.diffusion import DescribedDiffusion, Diffusion
from ltgc_local.recipe.generation import Assess, Describe, Draw, Extend, Leaks, LtgcDescribe, LtgcExtend
from ltgc_local.recipe.inputs import Data, DescribedModels, DiffusionModels, LtgcModels, Models, TgnModels
from ltgc_local.recipe.learning import Ensemble, Evaluate, LtgcEvaluate, Report, Train
from ltgc_local.recipe.markers import PAPER
from ltgc_local.recipe.tgn import Cdtg, Classifier, Kmdn, Measure, Merge, Split

DEFAULT_METHOD: Literal["ltgc"] = "ltgc"  # of a recipe that names none

#: The keys by which a recipe chooses its class, and the classes by the values of these keys. Of several classes that
#: have a value in common, the first is taken where a recipe does not choose among them.
DISCRIMINATORS = (("method",), ("generator",), ("diffusion", "prompts"))
VARIANTS: dict[tuple[str, ...], type[Recipe]] = {}
RecipeClass = TypeVar("RecipeClass", bound="type[Recipe]")


def variant(*choices: str) -> Callable[[RecipeClass], RecipeClass]:
    """Register a class of recipes: what its recipes write for ``DISCRIMINATORS``, as far as they have these keys."""

    def register(kind: RecipeClass) -> RecipeClass:
        VARIANTS[choices] = kind
        return kind

    return register


def class_of(written: Mapping[str, Any]) -> type[Recipe]:
    """Return the class that a recipe is of, whatever else is wrong with it.

    Args:
        written: its plain values, by block.
    """
    left = list(VARIANTS)
    for place, path in enumerate(DISCRIMINATORS):
        value: Any = written
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        left = [choices for choices in left if choices[place : place + 1] == (value,)] or left
        if len(left[0]) <= place + 1:
            break
    return VARIANTS[left[0]]


class Recipe(Block):
    """One run: the method, the seed and a block per stage. This class has what every method has."""

    name: Name = Field(examples=["my_run"])
    """Names the run directory, ``runs/<name>``."""
    method: str = DEFAULT_METHOD
    """The paper whose stages run: LTGC (CVPR 2024) or TGN (TGRS 2024)."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Every item's seed is derived from this and the item's key."""
    train_seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    """The same for the training that is evaluated and for its control: another one trains again on the same generated
    images. null takes ``seed``."""
    data: Data
    """Which images."""
    models: Models
    """Which models, and what they run on."""
    leaks: Leaks = Leaks()
    """Duplicates among generated, training and test images."""
    evaluate: Annotated[Evaluate, PAPER] = Evaluate()
    """Accuracies by group."""
    report: Report = Report()
    """The HTML report."""

    @property
    def training_seed(self) -> int:
        """The seed of the training that is evaluated."""
        return self.seed if self.train_seed is None else self.train_seed

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles for which the recipe names a model."""
        return tuple(role for role in ROLES if getattr(self.models, role, None) is not None)

    @property
    def selections(self) -> dict[str, tuple[Any, Any]]:
        """The keys that ask for a choice by validation images: their values, and those that ask for none."""
        return {f"{name}.select": (block.select, "last") for name, block in self if hasattr(block, "select")}

    @property
    def t2i_decoder(self) -> Literal["tiny"] | None:
        """The decoder in place of the t2i's own VAE."""
        return None

    @property
    def t2i_compile(self) -> Literal["none", "regional", "full"] | None:
        """What torch compiles of the t2i."""
        return None

    def override(self, values: Mapping[str, Any]) -> Self:
        """Return the recipe with other values of some fields, given by dotted names; it is not checked again."""
        found = self
        for path, value in values.items():
            block, _, key = path.rpartition(".")
            changed = getattr(found, block).model_copy(update={key: value}) if block else value
            found = found.model_copy(update={block or key: changed})
        return found

    def dump(self) -> dict[str, Any]:
        """Return every setting, defaults included, as plain JSON values (paths absolute), in pipeline order."""
        dumped = self.model_dump(mode="json")
        return {key: dumped[key] for key in sorted(dumped, key=("leaks", "evaluate", "report").__contains__)}


#: A class of recipes, for code that belongs to one method; any class by default.
RecipeT = TypeVar("RecipeT", bound=Recipe, default=Any)


@variant("ltgc")
class LtgcRecipe(Recipe):
    """LTGC: describe, extend, draw, assess, and fine-tune CLIP on the mixed images."""

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
    ensemble: Ensemble = Ensemble()
    """Several trainings, averaged, and one model distilled from them."""
    evaluate: LtgcEvaluate = LtgcEvaluate()

    @property
    def selections(self) -> dict[str, tuple[Any, Any]]:
        weighs = self.ensemble.is_chosen and (self.ensemble.towers > 1 or self.ensemble.zero_shot)
        chosen = {"ensemble.weights": (self.ensemble.weights, "equal")} if weighs else {}
        return {**super().selections, **chosen, "ensemble.tilt": (self.ensemble.tilt, False)}

    @property
    def t2i_decoder(self) -> Literal["tiny"] | None:
        return self.draw.decoder

    @property
    def t2i_compile(self) -> Literal["none", "regional", "full"] | None:
        return self.draw.compile

    def conflicts(self) -> Iterator[Conflict]:
        if self.draw.clip_features and not self.assess.enabled:
            yield "draw.clip_features", "has no effect where assess.enabled is false: nothing is scored; remove it"
        number, parts = self.train.batch_size, self.train.accumulation_steps
        processes = self.models.training_processes
        if processes > 1 and number % (processes * parts):
            uneven = f"{number} pairs cannot be shared evenly by {processes} processes in {parts} parts"
            yield "train.batch_size", f"{uneven}; write {-(-number // (processes * parts)) * processes * parts}"
        pairs, distills = number - self.train.num_replacing, self.ensemble.distill
        mixings = (self.train.mixing, self.ensemble.mixing, self.ensemble.distill_mixing if distills else None)
        if "joint" in mixings and 0 < pairs < processes:
            few = f"{self.train.joint_share:g} leaves {pairs} of {number} images for BalanceMix"
            yield "train.joint_share", f"{few}, and each of {processes} processes needs one; write a smaller share"
        if self.ensemble.zero_shot and not self.evaluate.zero_shot:
            yield "ensemble.zero_shot", "needs zero-shot CLIP; write 'evaluate: {zero_shot: true}'"
        epochs = self.ensemble.distill_epochs or self.train.epochs
        if distills and self.train.real_epochs >= epochs:
            yield "ensemble.distill_epochs", f"{epochs} leaves none for generated images; write more than real_epochs"
        if self.ensemble.is_soup and self.train.head == "frozen_text":
            yield "ensemble.combine", "trains the head of averaged towers; write 'train: {head: text}' or remove it"
        if self.ensemble.towers > 1:
            changed = self.train.model_copy(update=self.ensemble.settings_of(1))
            yield from ((f"ensemble.{key}", problem) for key, problem in changed.conflicts())
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
    """What generates tail images: the GAN of ``cdtg``, or SDXL by ``diffusion``, which is TGN-style rather than TGN."""
    merge: Annotated[Merge, PAPER] = Merge()
    """How many generated images each class gets."""
    classifier: Annotated[Classifier, PAPER] = Classifier()
    """The network that is trained on originals and generated images."""
    measure: Measure = Measure()
    """Distance, diversity and consistency of the generated images."""

    def conflicts(self) -> Iterator[Conflict]:
        fewest = 2 * self.models.training_processes
        for path, number in (
            ("kmdn.batch_size", self.kmdn.batch_size),
            ("kmdn.distill_batch_size", self.kmdn.distill_batch_size),
            ("classifier.batch_size", self.classifier.batch_size),
        ):
            if number < fewest:
                text = f"{number} images leave one of {self.models.training_processes} processes fewer than the 2 that"
                yield path, f"{text} batch norm needs; write {fewest}"


@variant("tgn", "wavelet_gan")
class GanRecipe(TgnRecipe):
    """TGN as in its paper, with its own generator."""

    generator: Literal["wavelet_gan"] = "wavelet_gan"
    cdtg: Annotated[Cdtg, PAPER] = Cdtg()
    """The generator of tail images."""

    def conflicts(self) -> Iterator[Conflict]:
        yield from super().conflicts()
        number, processes = self.cdtg.batch_size, self.models.training_processes
        if number % processes:
            even = -(-number // processes) * processes
            yield "cdtg.batch_size", f"{number} images cannot be shared evenly by {processes} processes; write {even}"


@variant("tgn", "diffusion", "classes")
class DiffusionRecipe(TgnRecipe):
    """TGN-style diffusion: SDXL with a LoRA on the tail classes generates their images."""

    models: DiffusionModels
    generator: Literal["diffusion"] = "diffusion"
    diffusion: Diffusion = Diffusion()
    """The generator, and the test that an image must pass."""

    @property
    def t2i_compile(self) -> Literal["none", "regional", "full"] | None:
        return self.diffusion.compile

    def conflicts(self) -> Iterator[Conflict]:
        yield from super().conflicts()
        number, processes = self.diffusion.batch_size, self.models.training_processes
        if number % processes:
            even = -(-number // processes) * processes
            text = f"{number} images cannot be shared evenly by {processes} processes; write {even}"
            yield "diffusion.batch_size", text


@variant("tgn", "diffusion", "descriptions")
class DescribedRecipe(DiffusionRecipe):
    """The same, with prompts that LTGC's text models write."""

    models: DescribedModels
    describe: Annotated[Describe, PAPER] = Describe()
    """Prompt 1, LTGC's step 1."""
    extend: Annotated[Extend, PAPER] = Extend()
    """Prompts 2 and 3, LTGC's step 2."""
    diffusion: DescribedDiffusion = DescribedDiffusion()

    def conflicts(self) -> Iterator[Conflict]:
        yield from super().conflicts()
        if problem := self.extend.problem_of_number(self.describe.max_images_per_class):
            yield "extend.max_descriptions", problem
