"""Evaluate: zero-shot CLIP, the control and LTGC on the test images, by group and class.

No other step tests on them; the leak guard looks at them only to find duplicates.

``metrics`` has each arm's accuracies with intervals; an arm's ensembles are nested in it under their own keys, so the
plain figures keep their place. ``predictions`` has every arm's prediction for every test image, so other intervals and
paired tests need no model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch

from ltgc_local.backends.protocols import ClipModel
from ltgc_local.evaluation.figures import columns_of, list_classes, measure_predictions
from ltgc_local.evaluation.predictions import PLAIN, build_views, iterate_logits
from ltgc_local.methods.evaluation import Logits, predict
from ltgc_local.methods.ltgc.stages import classify
from ltgc_local.methods.ltgc.stages.train import build_classifier
from ltgc_local.methods.stage import WholeStage
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.files import Artefact, Json, Table
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.lora import load_adapter, merge
from ltgc_local.training.tta import PredictedPrior, ensemble

ZERO_SHOT = "zero_shot"
ENSEMBLE = "zero_shot_ensemble"


class EvaluateStage(WholeStage[LtgcRecipe]):
    """Runs every classifier on the test images."""

    def make(self) -> list[Artefact]:
        corpus, weight = self.corpus, self.recipe.evaluate.zero_shot_weight
        clip: ClipModel = self.model
        models = self._build_arms(clip)
        log_prior = None if weight is None else self._zero_shot_prior(clip, models[ZERO_SHOT])

        def named(key: tuple[str, str], logits: Logits) -> Iterator[tuple[str, torch.Tensor]]:
            arm, view = key
            yield _name(arm, view), logits[key]
            if weight is not None and arm != ZERO_SHOT:
                yield _name(arm, view, ENSEMBLE), ensemble(logits[key], logits[ZERO_SHOT, view], log_prior, weight)

        self.progress.expect(len(corpus.test))
        predictions, stored = predict(self, clip, corpus.test, models, build_views(clip, self.recipe), named)
        metrics = measure_predictions(predictions, corpus, self.resampling, "ltgc")
        if self.inputs("answers"):
            metrics["vlm_zero_shot"] = classify.measure_answers(self, clip)
        return [
            Json("metrics", metrics),
            Json("classes", list_classes(corpus)),
            Table("predictions", columns_of(predictions, corpus)),
            *stored,
        ]

    def _zero_shot_prior(self, clip: ClipModel, model: torch.nn.Module) -> torch.Tensor | None:
        """Return log pi_zs of zero-shot CLIP on the training images, or None if no prior is subtracted."""
        settings, train = self.recipe.evaluate, self.corpus.train
        if settings.zero_shot_prior == "none":
            return None
        prior = PredictedPrior(len(self.corpus.class_names))
        plain = {PLAIN: build_views(clip, self.recipe)[PLAIN]}
        models = {ZERO_SHOT: model}
        for rows, logits in iterate_logits(clip, train, models, plain, settings.batch_size, self.decode_threads):
            prior.add(logits[ZERO_SHOT, PLAIN], torch.from_numpy(train.labels[rows].copy()))
        return prior.log()

    def _build_arms(self, clip: ClipModel) -> dict[str, torch.nn.Module]:
        """Return zero-shot CLIP, at CLIP's own temperature, and the classifier of each arm with its LoRA merged."""
        plain = copy.deepcopy(clip.visual)
        classifier = build_classifier(clip, self.corpus.class_names, self.recipe)
        arms: dict[str, torch.nn.Module] = {}
        if self.recipe.evaluate.zero_shot:
            head = CosineHead(classifier.head.weight.detach(), clip.logit_scale, trainable=False)
            arms[ZERO_SHOT] = Classifier(plain, head).eval()
        for step in sorted(self.inputs("arms"), key=lambda step: step.name):
            tensors, _ = read_tensors(self.run.file_of(step.name, "adapter"))
            classifier.head.weight.data.copy_(tensors.pop("head.weight"))
            load_adapter(classifier.tower, tensors)
            merged = Classifier(merge(copy.deepcopy(classifier.tower)), copy.deepcopy(classifier.head))
            arms[step.arm] = merged.eval()
        return arms


def _name(arm: str, *variant: str) -> str:
    """Return "ltgc", "ltgc.five_crop", "ltgc.five_crop+zero_shot_ensemble"."""
    return ".".join(filter(None, (arm, "+".join(filter(None, variant)))))
