"""The recipe: every setting of a run, one frozen block a stage, in pipeline order.

Defaults live here and nowhere else. Each field's docstring says where its default comes from: [paper] the method's
(LTGC's slides), [released code], or "ours", because LTGC's training code was not released and its slides leave most
values unstated. A block that the recipe's method does not use may not be written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from ltgc_local.model_store import ROLES, Role
from ltgc_local.recipe.block import Block, Name
from ltgc_local.recipe.diffusion import Diffusion
from ltgc_local.recipe.generation import Assess, Describe, Draw, Extend, Leaks, Scorer
from ltgc_local.recipe.inputs import DATA_KEYS, Data, Models
from ltgc_local.recipe.learning import Evaluate, Report, Train
from ltgc_local.recipe.tgn import Backbone, Cdtg, Classifier, Fitting, Kmdn, Measure, Merge, Split
from ltgc_local.recipe.uses import KEPT, UNUSED, missing_roles, variant_of, why_unused, without_unused

__all__ = [
    "DATA_KEYS",
    "NOT_SHAPING",
    "Assess",
    "Backbone",
    "Block",
    "Cdtg",
    "Classifier",
    "Data",
    "Describe",
    "Diffusion",
    "Draw",
    "Evaluate",
    "Extend",
    "Fitting",
    "Kmdn",
    "Leaks",
    "Measure",
    "Merge",
    "Models",
    "Name",
    "Recipe",
    "Report",
    "Scorer",
    "Split",
    "Train",
]  # fmt: skip


FITTED = ("kmdn", "cdtg", "diffusion", "classifier")  # blocks of TGN's trainings
#: Recipe fields that change how fast a step is, or which steps there are, and not what a step makes.
NOT_SHAPING = {
    "models.decode_threads",
    "extend.min_descriptions",  # it stops a run, and changes nothing of one that it does not stop
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
    "report.tensorboard",
} | {f"{block}.{field}" for block in FITTED for field in Fitting.model_fields} - {
    f"{block}.precision" for block in FITTED
}


class Recipe(Block):
    """One run: the method, the seed and a block a stage."""

    name: Name = Field(examples=["my_run"])
    """Names the run directory, ``runs/<name>``. Ours."""
    method: Literal["ltgc", "tgn"] = "ltgc"
    """The paper whose stages run: LTGC (CVPR 2024) or TGN (TGRS 2024). Ours."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Every item's seed is made from this and the item's name. Ours."""
    data: Data
    """Which images. Ours."""
    models: Models
    """Which models, and on what. Ours."""
    describe: Describe = Describe()
    """Prompt 1 [paper, step 1]."""
    extend: Extend = Extend()
    """Prompts 2 and 3 [paper, step 2]."""
    draw: Draw = Draw()
    """Text to image [paper, step 3]."""
    assess: Assess = Assess()
    """Prompts 4 and 5, detection and refinement [paper, step 3]."""
    split: Split = Split()
    """TGN: head and tail [paper]."""
    kmdn: Kmdn = Kmdn()
    """TGN: two networks that teach each other [paper]."""
    generator: Literal["wavelet_gan", "diffusion"] = "wavelet_gan"
    """TGN: what makes tail images: the GAN of ``cdtg`` [paper], or SDXL by ``diffusion``, which is no longer TGN but in
    its style. A recipe may hold both blocks; this says which is used. Ours: the choice."""
    cdtg: Cdtg = Cdtg()
    """TGN: the generator of tail images [paper]."""
    diffusion: Diffusion = Diffusion()
    """TGN-style, diffusion: SDXL with a LoRA on the tail classes. Ours."""
    merge: Merge = Merge()
    """TGN: how many generated images each class gets [paper]."""
    leaks: Leaks = Leaks()
    """Duplicates among generated, training and test images. Ours."""
    train: Train = Train()
    """BalanceMix and LoRA [paper, step 4]."""
    classifier: Classifier = Classifier()
    """TGN: the network that is trained on originals and generated images [paper]."""
    measure: Measure = Measure()
    """TGN: distance, diversity and consistency of the generated images. Ours."""
    evaluate: Evaluate = Evaluate()
    """Accuracies by group [paper, evaluation setup]."""
    report: Report = Report()
    """Ours."""

    @property
    def variant(self) -> str:
        """The method with its generator; ``ltgc_local.recipe.uses`` says what each uses."""
        return variant_of(self.method, self.generator, self.diffusion.prompts)

    @property
    def draws_by_diffusion(self) -> bool:
        """Whether this is "TGN-style, diffusion"."""
        return self.method == "tgn" and self.generator == "diffusion"

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that the recipe names a model for, and that its method uses."""
        unused = UNUSED[self.variant]
        return tuple(r for r in ROLES if f"models.{r}" not in unused and getattr(self.models, r) is not None)

    @property
    def selections(self) -> dict[str, str]:
        """The keys that say how an epoch is chosen, with their values."""
        if self.method == "ltgc":
            return {"train.select": self.train.select}
        return {"kmdn.select": self.kmdn.select, "classifier.select": self.classifier.select}

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from (("models", problem) for problem in missing_roles(self.variant, dict(self.models)))
        for path in UNUSED[self.variant]:
            if path in KEPT.get(self.variant, ()):
                continue
            name, _, key = path.partition(".")
            holder = getattr(self, name) if key else self
            if (key or name) in holder.model_fields_set and getattr(holder, key or name) is not None:
                yield path, why_unused(self.variant, path)
        if self.method == "ltgc":
            yield from self._conflicts_of_ltgc()
        else:
            yield from self._conflicts_of_tgn()
        if "extend" not in UNUSED[self.variant]:
            yield from self._conflicts_of_extend()

    def _conflicts_of_ltgc(self) -> Iterator[tuple[str, str]]:
        if self.draw.clip_features and not self.assess.enabled:
            yield "draw.clip_features", "has no effect where assess.enabled is false: nothing is scored; remove it"
        if self.train.batch_size % (self.models.workers * self.train.accumulation_steps) and self.models.workers > 1:
            each = self.models.workers * self.train.accumulation_steps
            yield (
                "train.batch_size",
                f"{self.train.batch_size} pairs cannot be shared evenly by {self.models.workers} workers in "
                f"{self.train.accumulation_steps} parts; write {-(-self.train.batch_size // each) * each}",
            )

    def _conflicts_of_tgn(self) -> Iterator[tuple[str, str]]:
        workers = self.models.workers
        for block, key in (("kmdn", "batch_size"), ("kmdn", "distill_batch_size"), ("classifier", "batch_size")):
            if (number := getattr(getattr(self, block), key)) < 2 * workers:
                yield (
                    f"{block}.{key}",
                    f"{number} images leave one of {workers} workers fewer than the 2 that batch norm needs; write "
                    f"{2 * workers}",
                )
        if not self.draws_by_diffusion and (number := self.cdtg.batch_size) % workers:
            even = -(-number // workers) * workers
            yield "cdtg.batch_size", f"{number} images cannot be shared evenly by {workers} workers; write {even}"

    def _conflicts_of_extend(self) -> Iterator[tuple[str, str]]:
        existing = self.describe.max_images_per_class
        if self.method == "ltgc":
            existing = min(existing, self.describe.tail_below - 1)
        extended = self.extend.max_asks * self.extend.per_ask
        if self.extend.source == "llm" and existing + extended < self.extend.max_descriptions:
            asks = -(-(self.extend.max_descriptions - existing) // self.extend.per_ask)
            yield (
                "extend.max_descriptions",
                f"{self.extend.max_descriptions} cannot be reached: at most {existing} existing and max_asks x per_ask "
                f"= {extended} extended; write 'max_asks: {asks}' or more",
            )

    def dump(self) -> dict[str, Any]:
        """Return all that the method uses, defaults included, as plain JSON values (paths absolute)."""
        return without_unused(self.variant, self.model_dump(mode="json"))
