"""A stage: the object that does a step's work, made once a process, with all that it may use."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, get_args, get_origin

from typing_extensions import TypeVar

from ltgc_local.backends.protocols import ModelOptions, T2iOptions, TextOptions, TokenCount
from ltgc_local.backends.registry import CONSTRAINED_DECODING, backend_of, load_model
from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.evaluation.intervals import Resampling
from ltgc_local.methods.base import Step
from ltgc_local.methods.registry import method_of
from ltgc_local.model_store.cards import TEXT_ROLES, ModelCard, Role, find_card
from ltgc_local.model_store.folders import model_folder
from ltgc_local.prefetch import num_cpus
from ltgc_local.recipe import Recipe, T2iModels, TextModels
from ltgc_local.runs.costs import Meter
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Artefact
from ltgc_local.runs.metrics import MetricsWriter
from ltgc_local.runs.progress import Progress
from ltgc_local.seeding import item_seed

R = TypeVar("R", bound=Recipe, default=Any, covariant=True)
Item = TypeVar("Item", default=Any)


class Stage(ABC, Generic[R]):
    """A step's work, with the recipe, the data, the run and the models; a subclass per kind of step.

    Models are loaded when first asked for. What several chunks share is a cached property of the subclass.

    Args:
        models: those that are loaded already, by role.
        corpus: the data, if they are open already.
    """

    trains_model: ClassVar[bool] = False  # whether it needs gradients through its model, which some products lack

    def __init__(
        self,
        recipe: R,
        step: Step,
        run: RunDirectory,
        progress: Progress,
        metrics: MetricsWriter | None = None,
        *,
        models: Mapping[Role, Any] | None = None,
        corpus: Corpus | None = None,
    ) -> None:
        self.recipe, self.step, self.run, self.progress = step.recipe(recipe), step, run, progress
        self.metrics = metrics or MetricsWriter()  # which writes nothing
        self.meter = Meter()
        self.corpus = corpus if corpus is not None else open_corpus(recipe.data)
        self._models = dict(models or {})

    def inputs(self, name: str) -> tuple[Step, ...]:
        """Return the steps that the step reads under a name; none where its recipe asks for none."""
        return self.step.inputs.get(name, ())

    def input(self, name: str) -> str:
        """Return the name of the one step that is read under a name."""
        (step,) = self.step.inputs[name]
        return step.name

    @property
    def model(self) -> Any:
        """The step's model; its type is the role's protocol."""
        assert self.step.model_role is not None, f"step {self.step.name} has no model"
        return self._model_of(self.step.model_role)

    @property
    def co_resident_model(self) -> Any:
        """The second model of a step that keeps two in memory; else None."""
        return self._model_of(self.step.co_resident) if self.step.co_resident is not None else None

    def _model_of(self, role: Role) -> Any:
        if role not in self._models:
            self._models[role] = self._load_role(role)
        return self._models[role]

    @property
    def tokens(self) -> tuple[int, int]:
        """The tokens that the loaded language models have read and written."""
        counts: list[TokenCount] = [
            getattr(model, "tokens", TokenCount()) for role, model in self._models.items() if role in TEXT_ROLES
        ]
        return sum(count.read for count in counts), sum(count.written for count in counts)

    def _load_role(self, role: Role) -> Any:
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
            return T2iOptions(
                **shared,
                compile="none" if self.trains_model else self.recipe.t2i_compile,
                few_step=card.few_step,
                batch_sizes=self.run.root / "batch_sizes.json",
                adapter=self.run.file_of(self.input("adapter"), "adapter") if self.inputs("adapter") else None,
                text_encoders=models.text_encoders,
                unet=None if self.trains_model else models.unet,  # float8 products have no gradient
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

    @cached_property
    def budget(self) -> dict[int, int]:
        """Class id -> how many images are wanted of it, of each tail class."""
        return method_of(self.recipe).budget(self.corpus, self.recipe)

    @property
    def resampling(self) -> Resampling:
        """How the intervals of the test accuracies are made."""
        settings = self.recipe.evaluate
        return Resampling(settings.interval_level, settings.resamples, self.seed("bootstrap"))

    def seed(self, *names: str | int) -> int:
        """Return the seed of the item that ``names`` identify in this run, or in any, of a step that has no seed."""
        seed = self.recipe.training_seed if self.step.is_reseeded else self.recipe.seed
        return item_seed(seed if self.step.is_seeded else 0, *names)


class WholeStage(Stage[R]):
    """A stage that makes all its files at once."""

    @abstractmethod
    def make(self) -> list[Artefact]:
        """Do the step's work and return its files."""


class ChunkedStage(Stage[R], Generic[R, Item]):
    """A stage whose work is cut into chunks, each of which is written, and lost, by itself.

    Items are numbers, strings or dataclasses of them: the chunks are planned once a step, and their plan is a file.
    Of a step with a million items, an item is better a file and its rows (``runs.generated.ImageRows``).
    """

    item: ClassVar[Any]  # the type of the items

    def __init_subclass__(cls) -> None:
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is ChunkedStage:
                cls.item = get_args(base)[1]

    @abstractmethod
    def chunks(self) -> list[Sequence[Item]]:
        """Return the step's items in chunks; called once a step."""

    @abstractmethod
    def make_chunk(self, chunk: Sequence[Item]) -> list[Artefact]:
        """Do a chunk's work and return its files."""

    def review(self, numbers: Collection[int], is_whole: bool) -> None:
        """Look at complete chunks: at the first, at each that was made, and at all once all are; warn, or raise.

        Args:
            numbers: the chunks to look at.
            is_whole: whether these are all, so that the step is complete.
        """


def stage_class(step: Step) -> type[Stage]:
    """Return the class that does a step's work."""
    module, name = step.stage.entry.split(":")
    found: type[Stage] = getattr(importlib.import_module(f"ltgc_local.methods.{module}"), name)
    return found


def split(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Cut items into chunks of ``size``; no items give no chunk."""
    return [items[start : start + size] for start in range(0, len(items), size)]
