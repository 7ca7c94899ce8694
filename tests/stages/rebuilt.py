"""Rebuild a stage with other data or with a test's own models."""

from __future__ import annotations

from typing import Any

from ltgc_local.datasets import Corpus
from ltgc_local.methods.stage import Stage


def rebuilt(stage: Any, corpus: Corpus | None = None, **models: Any) -> Any:
    """Return a stage of the same step; ``models`` are by role."""
    made: Stage = type(stage)(
        stage.recipe, stage.step, stage.run, stage.progress, models=models, corpus=corpus or stage.corpus
    )
    return made
