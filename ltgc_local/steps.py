"""The step: the unit that a method is made of and that one process executes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["vlm", "llm", "t2i", "clip", "backbone"]
TEXT_ROLES: frozenset[Role] = frozenset({"vlm", "llm"})
ROLES: tuple[Role, ...] = ("vlm", "llm", "t2i", "clip", "backbone")

#: Stages whose chunks know nothing of each other, so that several workers can share them (``models.workers``).
SHARDED = frozenset({
    "describe", "extend", "draw", "summarize", "detect", "refine", "classify", "fingerprint_images", "draw_tail",
    "accept",
})  # fmt: skip

#: Stages that several workers run together: each takes its share of every batch, and the first writes what they make.
TOGETHER = frozenset({"train", "train_alone", "distill", "train_generator", "train_classifier"})


@dataclass(frozen=True)
class Step:
    """One process: a stage, the steps that it reads, its model if any, and the recipe fields that shape its output."""

    name: str
    stage: str
    reads: tuple[str, ...] = ()
    model_role: Role | None = None
    settings: tuple[str, ...] = ()  # dotted recipe paths: a block, or one field
    unread: tuple[str, ...] = ()  # fields of those blocks that shape other steps and not this one
    beside: Role | None = None  # a second model that is in memory together with the first, where a recipe asks for it
