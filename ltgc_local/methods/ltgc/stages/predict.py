"""Predict: a tower (zero-shot CLIP, the control, LTGC) on the validation or the test images; a part is a chunk.

No other step reads test images, but for the leak guard, which only looks for duplicates. ``predictions`` has the arm's
prediction for every image, and, for test images, those with zero-shot CLIP and of other views under names of their own;
``tilted`` has its predictions for other class priors, and ``logits`` what an ensemble needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch

from ltgc_local.backends.protocols import ClipModel
from ltgc_local.evaluation.predictions import PLAIN, build_views, iterate_logits
from ltgc_local.methods.evaluation import Logits, RowSpan, predict, predicted_files, predicted_spans, spans_of, split_of
from ltgc_local.methods.ltgc.arms import ZERO_SHOT
from ltgc_local.methods.ltgc.stages.train import load_classifier, zero_shot
from ltgc_local.methods.stage import ChunkedStage
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.files import Artefact, Tensors
from ltgc_local.training.classifier import Classifier
from ltgc_local.training.tta import PredictedPrior, ensemble

ENSEMBLE = "zero_shot_ensemble"


class PriorStage(ChunkedStage[LtgcRecipe, RowSpan]):
    """Sums zero-shot CLIP's predictions on the training images: the prior that the ensemble takes from it."""

    def chunks(self) -> list[Sequence[RowSpan]]:
        return spans_of(len(self.corpus.train), self.recipe.evaluate.shard_size)

    def make_chunk(self, chunk: Sequence[RowSpan]) -> list[Artefact]:
        (span,) = chunk
        settings, train, prior = self.recipe.evaluate, self.corpus.train, PredictedPrior(len(self.corpus.class_names))
        labels = torch.from_numpy(train.labels[span.start : span.end].copy())
        views = {PLAIN: build_views(self.model, self.recipe)[PLAIN]}
        models, read = {ZERO_SHOT: self._zero_shot}, (settings.batch_size, self.decode_threads)
        for places, logits in iterate_logits(self.model, train, span.rows, models, views, *read):
            prior.add(logits[ZERO_SHOT, PLAIN], labels[places])
            self.progress.advance(places.stop - places.start)
        return [Tensors("sums", prior.state())]

    @cached_property
    def _zero_shot(self) -> Classifier:
        return zero_shot(self.model, self.corpus.class_names)


class PredictStage(ChunkedStage[LtgcRecipe, RowSpan]):
    """Runs one tower on its images, and on test images zero-shot CLIP too if the recipe mixes the two."""

    def chunks(self) -> list[Sequence[RowSpan]]:
        return predicted_spans(self)

    def make_chunk(self, chunk: Sequence[RowSpan]) -> list[Artefact]:
        (span,) = chunk
        views = build_views(self.model, self.recipe)
        views = views if self._is_test else {PLAIN: views[PLAIN]}
        predictions, logits = predict(self, self.model, span.rows, self._models_of_arm, views, self._named)
        return predicted_files(self, span, predictions, logits)

    def _named(self, key: tuple[str, str], logits: Logits) -> Iterator[tuple[str, torch.Tensor]]:
        arm, view = key
        if arm != self.step.arm:
            return
        yield _name(arm, view), logits[key]
        weight = self._zero_shot_weight
        if weight is not None and arm != ZERO_SHOT:
            yield _name(arm, view, ENSEMBLE), ensemble(logits[key], logits[ZERO_SHOT, view], self._log_prior, weight)

    @property
    def _is_test(self) -> bool:
        return split_of(self) is self.corpus.test

    @property
    def _zero_shot_weight(self) -> float | None:
        return self.recipe.evaluate.zero_shot_weight if self._is_test else None

    @cached_property
    def _log_prior(self) -> torch.Tensor | None:
        """log pi_zs of zero-shot CLIP on the training images, or None if no prior is subtracted."""
        if not self.inputs("prior"):
            return None
        prior = PredictedPrior(len(self.corpus.class_names))
        for path in self.run.files(self.input("prior"), "sums"):
            prior.add_state(read_tensors(path)[0])
        return prior.log()

    @cached_property
    def _models_of_arm(self) -> dict[str, torch.nn.Module]:
        """Zero-shot CLIP, at CLIP's own temperature, if it is wanted; and the arm's classifier with its LoRA merged."""
        clip: ClipModel = self.model
        arm = self.step.arm
        found: dict[str, torch.nn.Module] = {}
        if arm == ZERO_SHOT or self._zero_shot_weight is not None:
            found[ZERO_SHOT] = zero_shot(clip, self.corpus.class_names)
        if arm != ZERO_SHOT:
            found[arm] = load_classifier(self, self.inputs("arm")[0])
        return found


def _name(arm: str, *variant: str) -> str:
    """Return "ltgc", "ltgc.five_crop", "ltgc.five_crop+zero_shot_ensemble"."""
    return ".".join(filter(None, (arm, "+".join(filter(None, variant)))))
