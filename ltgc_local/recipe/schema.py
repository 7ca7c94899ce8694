"""The recipe: every setting of a run, one frozen block a stage, in pipeline order.

Defaults live here and nowhere else. Each field's docstring says where its default comes from: [paper] LTGC's slides,
[released code], or "ours", because no training code was released and the slides leave most values unstated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from ltgc_local.recipe.block import Block, Name
from ltgc_local.recipe.generation import Assess, Describe, Draw, Extend, Leaks, Scorer
from ltgc_local.recipe.inputs import DATA_KEYS, Data, Models
from ltgc_local.recipe.learning import Evaluate, Report, Train

__all__ = [
    "DATA_KEYS",
    "NOT_SHAPING",
    "Assess",
    "Block",
    "Data",
    "Describe",
    "Draw",
    "Evaluate",
    "Extend",
    "Leaks",
    "Models",
    "Name",
    "Recipe",
    "Report",
    "Scorer",
    "Train",
]  # fmt: skip


#: Recipe fields that change how fast a step is, or which steps there are, and not what a step makes.
NOT_SHAPING = {
    "models.decode_threads",
    "draw.batch_size",
    "draw.compile",
    "assess.batch_size",
    "leaks.enabled",
    "leaks.batch_size",
    "evaluate.batch_size",
    "train.control",
    "train.checkpoint_minutes",
    "train.in_memory_mib",
    "train.decode_workers",
}


class Recipe(Block):
    """One run: the method, the seed and a block a stage."""

    name: Name = Field(examples=["my_run"])
    """Names the run directory, ``runs/<name>``. Ours."""
    method: Literal["ltgc"] = "ltgc"
    """The paper whose stages run. Ours."""
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
    leaks: Leaks = Leaks()
    """Duplicates among generated, training and test images. Ours."""
    train: Train = Train()
    """BalanceMix and LoRA [paper, step 4]."""
    evaluate: Evaluate = Evaluate()
    """Accuracies by group [paper, evaluation setup]."""
    report: Report = Report()
    """Ours."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        existing = min(self.describe.max_images_per_class, self.describe.tail_below - 1)
        extended = self.extend.max_asks * self.extend.per_ask
        if self.extend.source == "llm" and existing + extended < self.extend.max_descriptions:
            asks = -(-(self.extend.max_descriptions - existing) // self.extend.per_ask)
            yield (
                "extend.max_descriptions",
                f"{self.extend.max_descriptions} cannot be reached: at most {existing} existing and max_asks x per_ask "
                f"= {extended} extended; write 'max_asks: {asks}' or more",
            )

    def dump(self) -> dict[str, Any]:
        """Return the whole recipe, defaults included, as plain JSON values (paths absolute)."""
        return self.model_dump(mode="json")
