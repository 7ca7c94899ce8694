"""Evaluate: the only step that reads test images. Zero-shot CLIP, the control and LTGC, by group and class."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import load_file

from ltgc_local.artefacts.files import Artefact, Json
from ltgc_local.backends.protocols import TrainableClip
from ltgc_local.metrics import accuracies
from ltgc_local.stages.context import Chunk, StageContext
from ltgc_local.stages.train import build_classifier, load_split, predict
from ltgc_local.training.classifier import Classifier
from ltgc_local.training.lora import load_adapter, merge

NUMBERED = False


def plan_chunks(context: StageContext) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext, chunk: Sequence[str]) -> list[Artefact]:
    recipe, corpus = context.recipe, context.corpus
    clip: TrainableClip = context.model
    test = load_split(context, corpus.test)
    counts, norm = corpus.class_counts(), clip.normalisation
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
    return [Json("metrics", results)]
