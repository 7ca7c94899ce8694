"""Collect accepted: of each wanted image the attempt that the accept test let through, if any; all where none is made.

What every attempt missed is left out and listed with its reason, so that a class may get fewer images than the budget
wants: ``merge`` says how many.
"""

from __future__ import annotations

from ltgc_local.methods.ltgc.stages.collect import CollectStage
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.records import Acceptance


class CollectAcceptedStage(CollectStage):
    """Keeps what the accept test let through."""

    recipe: DiffusionRecipe
    judgement, judged_by = Acceptance, "accept"

    @property
    def shard_size(self) -> int:
        return self.recipe.diffusion.shard_size

    @property
    def attempts(self) -> int:
        return self.recipe.diffusion.attempts

    def explain(self, score: Acceptance) -> str:
        return score.reason
