"""Weigh: choose, on validation images, how much each tower of an ensemble counts, and the class prior; then combine.

``weights`` says what was chosen and what it reaches on the validation images, which chose it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ltgc_local.evaluation.choice import Limit, choose
from ltgc_local.evaluation.predictions import Predictions
from ltgc_local.methods.evaluation import RowSpan, counts_of, predicted_files, predicted_spans
from ltgc_local.methods.stage import ChunkedStage, WholeStage
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.files import Artefact, Json
from ltgc_local.training.tta import combine


class WeighStage(WholeStage[LtgcRecipe]):
    """Chooses weights and tau from the towers' logits for the validation images."""

    def make(self) -> list[Artefact]:
        settings, labels = self.recipe.ensemble, self.corpus.val.labels
        towers = self.inputs("towers")
        if self.corpus.val_is_test:  # the recipe then asks for no choice
            return [Json("weights", {"weights": [1 / len(towers)] * len(towers), "tau": 0.0})]
        logits = [_read_logits(self, step.name, step.arm) for step in towers]
        limit = None
        if settings.lose_on_many_at_most is not None:
            for step in self.inputs("control"):
                right = _read_logits(self, step.name, step.arm).argmax(1).numpy() == labels
                limit = Limit("many", right, settings.lose_on_many_at_most)
        chosen = choose(
            logits,
            np.asarray(labels),
            self.corpus.class_counts(),
            maximise=settings.maximise,
            weighs=settings.weights == "validation",
            tilts=settings.tilt,
            limit=limit,
        )
        self.progress.advance(len(labels))
        return [Json("weights", chosen.to_json())]


class CombineStage(ChunkedStage[LtgcRecipe, RowSpan]):
    """Predicts what the towers say together, from the logits that they wrote."""

    def chunks(self) -> list[Sequence[RowSpan]]:
        return predicted_spans(self)

    def make_chunk(self, chunk: Sequence[RowSpan]) -> list[Artefact]:
        (span,) = chunk
        number = span.start // self.recipe.evaluate.shard_size
        paths = [(step.arm, self.run.files(step.name, "logits")[number]) for step in self.inputs("towers")]
        chosen = self.run.value(self.input("weights"), "weights")
        towers = [read_tensors(path)[0][arm] for arm, path in paths]
        log_n, arm = counts_of(self), self.step.arm
        logits, every = combine(towers, chosen["weights"], chosen["tau"], log_n), slice(0, span.num_items)
        predictions = Predictions(span.num_items)
        predictions.add(arm, every, logits)
        predictions.add_tilted(arm, every, logits, log_n)
        self.progress.advance(span.num_items)
        stored = {arm: logits.half()} if self.recipe.evaluate.store_logits else {}
        return predicted_files(self, span, predictions, stored)


def _read_logits(stage: WholeStage[LtgcRecipe], step: str, arm: str) -> torch.Tensor:
    """Return a tower's logits (N, C) for all validation images."""
    return torch.cat([read_tensors(path)[0][arm].float() for path in stage.run.files(step, "logits")])
