"""What a stage is given: the recipe, its step, the data, what earlier steps wrote, and its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from ltgc_local.backends.choice import backend_of
from ltgc_local.backends.protocols import FewStep, LoadSettings
from ltgc_local.backends.registry import CONSTRAINED_DECODING, load_model
from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.datasets.groups import tail_classes
from ltgc_local.evaluation.intervals import Resampling
from ltgc_local.methods.base import Step
from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.model_store import ModelCard, Role, find_card, model_folder
from ltgc_local.prefetch import num_cpus
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Artefact
from ltgc_local.runs.metrics import MetricsWriter
from ltgc_local.runs.progress import Progress
from ltgc_local.seeding import item_seed

ADAPTER = "diffusion/train"  # the step that makes the t2i's adapter, for those that read it


@dataclass(frozen=True, eq=False)
class StageContext:
    """Everything that a stage may use. Data and model are opened when first asked for."""

    recipe: Recipe
    step: Step
    run: RunDirectory
    progress: Progress
    metrics: MetricsWriter = field(default_factory=MetricsWriter)  # writes nothing unless the worker gives another

    @cached_property
    def corpus(self) -> Corpus:
        return open_corpus(self.recipe.data)

    @cached_property
    def model(self) -> Any:
        """The step's model; its type is the role's protocol."""
        assert self.step.model_role is not None, f"step {self.step.name} has no model"
        return self._load(self.step.model_role)

    @cached_property
    def model_beside(self) -> Any:
        """The second model, of a step that keeps one beside its first; else None."""
        return self._load(self.step.beside) if self.step.beside is not None else None

    def _load(self, role: Role) -> Any:
        models, is_text, card = self.recipe.models, role in ("vlm", "llm"), self._card(role)
        settings = LoadSettings(
            models.device,
            card.dtype or "auto" if models.dtype == "auto" else models.dtype,
            models.quantization if is_text else "none",
            models.max_model_len,
            models.tensor_parallel or card.tensor_parallel or 1,
            models.max_pixels,
            self._compile,
            _few_step(card),
            self.run.root / "batch_sizes.json",
            self.run.files(ADAPTER, "adapter")[0] if role == "t2i" and ADAPTER in self.step.reads else None,
            models.text_encoders,
            None if self.step.name == ADAPTER else models.unet,  # float8 products have no gradient
            card.tiny_decoder if self.recipe.draw.decoder == "tiny" else None,
        )
        return load_model(role, backend_of(role, self.recipe), self.role_folder(role), settings)

    @property
    def _compile(self) -> Literal["none", "regional", "full"] | None:
        """What is compiled of a t2i: nothing of one that trains."""
        if self.step.name == ADAPTER:
            return "none"
        return self.recipe.diffusion.compile if self.recipe.draws_by_diffusion else self.recipe.draw.compile

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
        """The ids of the tail classes, from training counts alone: TGN's by rank, LTGC's by number."""
        if self.recipe.method == "tgn":
            return sorted(entry.class_id for entry in read_manifest(self.run).tail)
        return tail_classes(self.corpus.class_counts(), self.recipe.describe.tail_below)

    @property
    def resampling(self) -> Resampling:
        """How the intervals of the test accuracies are made."""
        settings = self.recipe.evaluate
        return Resampling(settings.interval_level, settings.resamples, self.seed("bootstrap"))

    def seed(self, *names: str | int) -> int:
        """Return the seed of the item that ``names`` identify in this run."""
        return item_seed(self.recipe.seed, *names)


def _few_step(card: ModelCard) -> FewStep | None:
    found = card.few_step
    if found is None:
        return None
    return FewStep(tuple(found.steps), found.guidance, found.scheduler, found.timestep_spacing, found.lora)


#: A chunk's items, in a fixed order.
Chunk = Sequence[Any]


class Stage(Protocol):
    """What a module under ``stages`` offers as functions; ``NUMBERED = False`` if it always has one chunk."""

    plan_chunks: Callable[[StageContext], list[Chunk]]
    run_chunk: Callable[[StageContext, Chunk], list[Artefact]]


def split(items: Sequence[Any], size: int) -> list[Chunk]:
    """Cut items into chunks of ``size``; no items give no chunk."""
    return [items[start : start + size] for start in range(0, len(items), size)]
