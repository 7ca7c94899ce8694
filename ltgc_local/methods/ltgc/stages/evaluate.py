"""Evaluate: zero-shot CLIP, the control and LTGC on the test images, by group and class.

It is the only step that tests on them; the leak guard looks at them only to find duplicates.

``metrics`` has, for each arm, the accuracies with intervals; ensembles of an arm stand inside it under their own keys,
so the plain figures are always where they are. ``predictions`` has what every arm said of every test image, so that
other intervals and paired tests need no model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from ltgc_local.backends.protocols import TrainableClip
from ltgc_local.evaluation.figures import columns_of, list_classes, measure_predictions
from ltgc_local.evaluation.predictions import PLAIN, Predictions, build_views, iterate_logits
from ltgc_local.methods.context import Chunk, StageContext
from ltgc_local.methods.ltgc.stages import classify
from ltgc_local.methods.ltgc.stages.train import build_classifier
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.files import Artefact, Json, Table, Tensors
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.lora import load_adapter, merge
from ltgc_local.training.tta import PredictedPrior, ensemble

NUMBERED = False
ZERO_SHOT = "zero_shot"
ENSEMBLE = "zero_shot_ensemble"


def plan_chunks(context: StageContext[LtgcRecipe]) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext[LtgcRecipe], chunk: Sequence[str]) -> list[Artefact]:
    corpus, settings = context.corpus, context.recipe.evaluate
    clip: TrainableClip = context.model
    models = build_arms(context, clip)
    log_prior = _zero_shot_prior(context, clip, models[ZERO_SHOT]) if settings.zero_shot_weight is not None else None
    predictions, kept = Predictions(len(corpus.test)), []
    context.progress.expect(len(corpus.test))
    views = build_views(clip, context.recipe)
    for rows, logits in iterate_logits(clip, corpus.test, models, views, settings.batch_size, context.decode_threads):
        for (arm, view), values in logits.items():
            predictions.add(_name(arm, view), rows, values)
            if settings.zero_shot_weight is not None and arm != ZERO_SHOT:
                mixed = ensemble(values, logits[ZERO_SHOT, view], log_prior, settings.zero_shot_weight)
                predictions.add(_name(arm, view, ENSEMBLE), rows, mixed)
        if settings.store_logits:
            kept.append({arm: logits[arm, PLAIN].half() for arm in models})
        context.progress.advance(len(rows))
    metrics = measure_predictions(predictions, context.corpus, context.resampling, "ltgc")
    if classify.STEP in context.step.reads:
        metrics["vlm_zero_shot"] = classify.measure_answers(context, clip)
    artefacts: list[Artefact] = [
        Json("metrics", metrics),
        Json("classes", list_classes(context.corpus)),
        Table("predictions", columns_of(predictions, context.corpus)),
    ]
    if settings.store_logits:
        artefacts.append(Tensors("logits", {arm: torch.cat([batch[arm] for batch in kept]) for arm in models}))
    return artefacts


def build_arms(context: StageContext[LtgcRecipe], clip: TrainableClip) -> dict[str, torch.nn.Module]:
    """Return the classifiers: zero-shot CLIP (at CLIP's own temperature), and each trained arm with its LoRA merged."""
    plain = copy.deepcopy(clip.visual)
    classifier = build_classifier(clip, context.corpus.class_names, context.recipe)
    arms: dict[str, torch.nn.Module] = {}
    if context.recipe.evaluate.zero_shot:
        head = CosineHead(classifier.head.weight.detach(), clip.logit_scale, trainable=False)
        arms[ZERO_SHOT] = Classifier(plain, head).eval()
    for step in sorted(step for step in context.step.reads if step.startswith("train/")):
        tensors, _ = read_tensors(context.run.files(step, "adapter")[0])
        classifier.head.weight.data.copy_(tensors.pop("head.weight"))
        load_adapter(classifier.tower, tensors)
        merged = Classifier(merge(copy.deepcopy(classifier.tower)), copy.deepcopy(classifier.head))
        arms[step.rpartition("/")[2]] = merged.eval()
    return arms


def _zero_shot_prior(
    context: StageContext[LtgcRecipe], clip: TrainableClip, model: torch.nn.Module
) -> torch.Tensor | None:
    """Return log pi_zs of zero-shot CLIP on the training images, or None where no prior is to be taken off."""
    settings, train = context.recipe.evaluate, context.corpus.train
    if settings.zero_shot_prior == "none":
        return None
    prior = PredictedPrior(len(context.corpus.class_names))
    plain = {PLAIN: build_views(clip, context.recipe)[PLAIN]}
    for rows, logits in iterate_logits(
        clip, train, {ZERO_SHOT: model}, plain, settings.batch_size, context.decode_threads
    ):
        prior.add(logits[ZERO_SHOT, PLAIN], torch.from_numpy(train.labels[rows].copy()))
    return prior.log()


def _name(arm: str, *variant: str) -> str:
    """Return "ltgc", "ltgc.five_crop", "ltgc.five_crop+zero_shot_ensemble"."""
    return ".".join(filter(None, (arm, "+".join(filter(None, variant)))))
