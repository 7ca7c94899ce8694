"""Evaluate: how often zero-shot CLIP, the control and LTGC are right on the test images, by group and class.

``metrics`` has each arm's accuracies with intervals; an arm's ensembles are nested in it under their own keys, so the
plain figures keep their place. ``predictions`` has every arm's prediction for every test image, so other intervals and
paired tests need no model. ``rivals`` compares LTGC with each control where both do as well on frequent classes.
"""

from __future__ import annotations

from ltgc_local.evaluation.figures import list_classes, measure_predictions
from ltgc_local.evaluation.rivals import sides_of
from ltgc_local.methods.evaluation import compare_with_rivals, read_predictions
from ltgc_local.methods.ltgc.stages import classify
from ltgc_local.methods.stage import WholeStage
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.runs.files import Artefact, Json


class EvaluateStage(WholeStage[LtgcRecipe]):
    """Measures what was predicted."""

    def make(self) -> list[Artefact]:
        predictions, stored = read_predictions(self)
        metrics = measure_predictions(predictions, self.corpus, self.resampling, "ltgc")
        for step in self.inputs("weights"):
            metrics[step.arm]["chosen"] = self.run.value(step.name, "weights")
        if self.inputs("answers"):
            metrics["vlm_zero_shot"] = classify.measure_answers(self)
        self.progress.advance(len(self.corpus.test))
        rivals = compare_with_rivals(self, predictions, "ltgc", sides_of(self.corpus.class_counts()))
        return [Json("metrics", metrics), Json("rivals", rivals), Json("classes", list_classes(self.corpus)), *stored]
