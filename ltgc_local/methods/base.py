"""The step: the unit that a method is made of and that one process executes."""

from __future__ import annotations

from dataclasses import dataclass

from ltgc_local.model_store import Role

#: Stages whose chunks know nothing of each other, so that several workers can share them (``models.workers``).
SHARDED = frozenset({
    *(f"ltgc.stages.{name}" for name in ("describe", "extend", "draw", "summarize", "detect", "refine", "classify")),
    *("stages.fingerprint_images", "tgn.stages.draw_tail", "tgn.stages.accept"),
})  # fmt: skip

#: Stages that several workers run together: each takes its share of every batch, and the first writes what they make.
TOGETHER = frozenset(
    {
        "ltgc.stages.train",
        "tgn.stages.train_alone",
        "tgn.stages.distill",
        "tgn.stages.train_generator",
        "tgn.stages.train_classifier",
    }
)


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

    @property
    def is_report(self) -> bool:
        """Whether the step writes the page about the run: nothing reads it, and it is never taken from another run."""
        return self.stage == "stages.report"
