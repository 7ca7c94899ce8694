"""What a stage is given: the recipe, its step, the data, what earlier steps wrote, and its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, Self

from typing_extensions import TypeVar

from ltgc_local.backends.protocols import ModelOptions, T2iOptions, TextOptions
from ltgc_local.backends.registry import CONSTRAINED_DECODING, backend_of, load_model
from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.evaluation.intervals import Resampling
from ltgc_local.methods.base import Step
from ltgc_local.methods.registry import method_of
from ltgc_local.model_store.cards import TEXT_ROLES, ModelCard, Role, find_card
from ltgc_local.model_store.folders import model_folder
from ltgc_local.prefetch import num_cpus
from ltgc_local.recipe import Recipe, T2iModels, TextModels
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Artefact
from ltgc_local.runs.metrics import MetricsWriter
from ltgc_local.runs.progress import Progress
from ltgc_local.seeding import item_seed

ADAPTER = "diffusion/train"  # the step that makes the t2i's adapter, for those that read it

Made = TypeVar("Made")
RecipeT_co = TypeVar("RecipeT_co", bound=Recipe, default=Any, covariant=True)


@dataclass(frozen=True, eq=False)
class StageContext(Generic[RecipeT_co]):
    """Everything that a stage may use. Data and model are opened when first asked for."""

    recipe: RecipeT_co
    step: Step
    run: RunDirectory
    progress: Progress
    metrics: MetricsWriter = field(default_factory=MetricsWriter)  # writes nothing unless the worker gives another
    _made: dict[Callable[[Any], Any], Any] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def corpus(self) -> Corpus:
        return open_corpus(self.recipe.data)

    @cached_property
    def model(self) -> Any:
        """The step's model; its type is the role's protocol."""
        assert self.step.model_role is not None, f"step {self.step.name} has no model"
        return self._load(self.step.model_role)

    @cached_property
    def co_resident_model(self) -> Any:
        """The second model of a step that keeps two in memory; else None."""
        return self._load(self.step.co_resident) if self.step.co_resident is not None else None

    def _load(self, role: Role) -> Any:
        folder, backend = self.role_folder(role), backend_of(role, self.recipe)
        return load_model(role, backend, folder, self._options(role, self._card(role)))

    def _options(self, role: Role, card: ModelCard) -> ModelOptions:
        models = self.recipe.models
        shared: dict[str, Any] = {
            "device": models.device,
            "dtype": card.dtype or "auto" if models.dtype == "auto" else models.dtype,
        }
        if role in TEXT_ROLES and isinstance(models, TextModels):
            return TextOptions(
                **shared,
                quantization=models.quantization,
                max_model_len=models.max_model_len,
                tensor_parallel=models.tensor_parallel or card.tensor_parallel or 1,
                max_pixels=models.max_pixels,
            )
        if role == "t2i" and isinstance(models, T2iModels):
            trains = self.step.name == ADAPTER
            return T2iOptions(
                **shared,
                compile="none" if trains else self.recipe.t2i_compile,
                few_step=card.few_step,
                batch_sizes=self.run.root / "batch_sizes.json",
                adapter=self.run.files(ADAPTER, "adapter")[0] if ADAPTER in self.step.reads else None,
                text_encoders=models.text_encoders,
                unet=None if trains else models.unet,  # float8 products have no gradient
                tiny_decoder=card.tiny_decoder if self.recipe.t2i_decoder == "tiny" else None,
            )
        return ModelOptions(**shared)

    @property
    def decode_threads(self) -> int:
        return self.recipe.models.decode_threads or num_cpus()

    def is_structured(self, role: Role, reply_form: str) -> bool:
        """Return whether a text model is asked for JSON: always, never, or where its backend constrains decoding."""
        return reply_form == "structured" or (
            reply_form == "auto" and backend_of(role, self.recipe) in CONSTRAINED_DECODING
        )

    def role_folder(self, role: Role) -> Path:
        """Return the folder of a role's weights, tokenizer and configuration."""
        return model_folder(self._card(role))

    def _card(self, role: Role) -> ModelCard:
        return find_card(self.recipe.models.cards, getattr(self.recipe.models, role), role)

    @cached_property
    def tail(self) -> list[int]:
        """The ids of the tail classes, from training counts alone."""
        return method_of(self.recipe).tail(self.corpus, self.recipe)

    @property
    def resampling(self) -> Resampling:
        """How the intervals of the test accuracies are made."""
        settings = self.recipe.evaluate
        return Resampling(settings.interval_level, settings.resamples, self.seed("bootstrap"))

    def once(self, make: Callable[[Self], Made]) -> Made:
        """Return what ``make`` gives for this context. It is called once, however many chunks ask for it."""
        if make not in self._made:
            self._made[make] = make(self)
        made: Made = self._made[make]
        return made

    def seed(self, *names: str | int) -> int:
        """Return the seed of the item that ``names`` identify in this run, or in any, of a step that has no seed."""
        return item_seed(self.recipe.seed if self.step.is_seeded else 0, *names)


#: A chunk's items, in a fixed order.
Chunk = Sequence[Any]


class Stage(Protocol):
    """What a module under ``stages`` offers as functions; ``NUMBERED = False`` if it always has one chunk.

    It may have ``review(context, is_whole)`` as well, which is called when chunks are complete: to warn, or to raise.
    """

    plan_chunks: Callable[[StageContext], list[Chunk]]
    run_chunk: Callable[[StageContext, Chunk], list[Artefact]]


def split(items: Sequence[Any], size: int) -> list[Chunk]:
    """Cut items into chunks of ``size``; no items give no chunk."""
    return [items[start : start + size] for start in range(0, len(items), size)]
