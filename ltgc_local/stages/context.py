"""What a stage is given: the recipe, its step, the data, what earlier steps wrote, and its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ltgc_local.artefacts.directory import RunDirectory
from ltgc_local.artefacts.files import Artefact
from ltgc_local.artefacts.progress import Progress
from ltgc_local.backends.choice import backend_of
from ltgc_local.backends.protocols import LoadSettings
from ltgc_local.backends.registry import CONSTRAINED_DECODING, load_model
from ltgc_local.corpora import Corpus, open_corpus
from ltgc_local.longtail import tail_classes
from ltgc_local.recipe import Recipe
from ltgc_local.seeding import item_seed
from ltgc_local.steps import Role, Step
from ltgc_local.store import ModelCard, find_card, model_folder


@dataclass(frozen=True)
class StageContext:
    """Everything that a stage may use. Data and model are opened when first asked for."""

    recipe: Recipe
    step: Step
    run: RunDirectory
    progress: Progress

    @cached_property
    def corpus(self) -> Corpus:
        return open_corpus(self.recipe.data)

    @cached_property
    def model(self) -> Any:
        """The step's one model; its type is the role's protocol."""
        role = self.step.model_role
        assert role is not None, f"step {self.step.name} has no model"
        models, is_text = self.recipe.models, role in ("vlm", "llm")
        settings = LoadSettings(
            models.device,
            self._card(role).dtype or "auto" if models.dtype == "auto" else models.dtype,
            models.quantization if is_text else "none",
            models.max_model_len,
            models.tensor_parallel or self._card(role).tensor_parallel or 1,
            models.max_pixels,
        )
        return load_model(role, backend_of(role, self.recipe), self.role_folder(role), settings)

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
        return tail_classes(self.corpus.class_counts(), self.recipe.describe.tail_below)

    def seed(self, *names: str | int) -> int:
        """Return the seed of the item that ``names`` identify in this run."""
        return item_seed(self.recipe.seed, *names)


#: A chunk's items, in a fixed order.
Chunk = Sequence[Any]


class Stage(Protocol):
    """What a module under ``stages`` offers as functions; ``NUMBERED = False`` if it always has one chunk."""

    plan_chunks: Callable[[StageContext], list[Chunk]]
    run_chunk: Callable[[StageContext, Chunk], list[Artefact]]


def split(items: Sequence[Any], size: int) -> list[Chunk]:
    """Cut items into chunks of ``size``; no items give no chunk."""
    return [items[start : start + size] for start in range(0, len(items), size)]
