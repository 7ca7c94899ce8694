"""Evaluate: zero-shot CLIP, the control and LTGC on the test images, by group and class.

It is the only step that tests on them; the leak guard looks at them only to find duplicates.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import load_file

from ltgc_local.artefacts.files import Artefact, Json
from ltgc_local.backends.open_clip_vit import OpenClipVit
from ltgc_local.metrics import accuracies
from ltgc_local.stages.classify import STEP, measure_answers
from ltgc_local.stages.context import Chunk, StageContext
from ltgc_local.stages.train import build_classifier, load_split, predict
from ltgc_local.training.classifier import Classifier
from ltgc_local.training.lora import load_adapter, merge
from ltgc_local.training.pixels import normalisation

NUMBERED = False


def plan_chunks(context: StageContext) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext, chunk: Sequence[str]) -> list[Artefact]:
    recipe, corpus = context.recipe, context.corpus
    clip: OpenClipVit = context.model
    test = load_split(clip, corpus.test)
    counts, norm = corpus.class_counts(), normalisation(clip.preprocess)
    plain = copy.deepcopy(clip.visual)
    arms = [step for step in context.step.reads if step.startswith("train/")]
    context.progress.expect(len(test) * (len(arms) + recipe.evaluate.zero_shot))
    results: dict[str, Any] = {}

    def measure(name: str, model: torch.nn.Module) -> None:
        model.eval()
        results[name] = accuracies(predict(model, test, norm, recipe.evaluate.batch_size), test.labels, counts)
        context.progress.advance(len(test))

    classifier = build_classifier(clip, corpus.class_names, recipe)
    if recipe.evaluate.zero_shot:
        measure("zero_shot", Classifier(plain, classifier.head))
    for step in sorted(arms):
        tensors = load_file(context.run.files(step, "adapter")[0])
        classifier.head.weight.data.copy_(tensors.pop("head.weight"))
        load_adapter(classifier.tower, tensors)
        measure(step.rpartition("/")[2], Classifier(merge(copy.deepcopy(classifier.tower)), classifier.head))
    if STEP in context.step.reads:
        results["vlm_zero_shot"] = measure_answers(context, clip)
    return [Json("metrics", results)]
