"""The figures that every method's evaluation writes, of what its classifiers said of the test images."""

from __future__ import annotations

from typing import Any

from ltgc_local.intervals import Resampling, accuracy_intervals, difference_intervals
from ltgc_local.longtail import shot_of
from ltgc_local.metrics import measure
from ltgc_local.stages.context import StageContext
from ltgc_local.stages.predictions import Answers


def measure_answers(context: StageContext, answers: Answers) -> dict[str, dict[str, Any]]:
    """Return {arm: figures}; an ensemble of an arm is a value in it, the method minus its control ``minus_control``."""
    settings, labels, counts = context.recipe.evaluate, context.corpus.test.labels, context.corpus.class_counts()
    resampling = Resampling(settings.interval_level, settings.resamples, context.seed("bootstrap"))
    metrics: dict[str, dict[str, Any]] = {}
    for name, predicted in answers.predicted.items():
        arm, _, variant = name.partition(".")
        figures: dict[str, Any] = measure(predicted, answers.confidence[name], labels, counts)
        correct = predicted == labels
        figures["interval"] = accuracy_intervals(correct, labels, counts, resampling)
        control = "control" + name.removeprefix(arm)
        if arm == context.recipe.method and control in answers.predicted:
            figures["minus_control"] = difference_intervals(
                correct, answers.predicted[control] == labels, labels, counts, resampling
            )
        if variant:
            metrics[arm][variant] = figures
        else:
            metrics[arm] = figures
    return metrics


def list_classes(context: StageContext) -> list[dict[str, Any]]:
    """Return every class's name, number of training images and group: what ``compare`` needs beside predictions."""
    counts, names = context.corpus.class_counts(), context.corpus.class_names
    return [
        {"class_id": class_id, "name": names[class_id], "num_train": count, "shot": shot_of(count)}
        for class_id, count in counts.items()
    ]


def columns_of(context: StageContext, answers: Answers) -> dict[str, Any]:
    """Return what is stored of every test image: its key and label, and each arm's prediction and confidence."""
    test = context.corpus.test
    columns: dict[str, Any] = {"key": list(test.keys), "label": test.labels}
    for name, predicted in answers.predicted.items():
        columns |= {f"{name}.predicted": predicted, f"{name}.confidence": answers.confidence[name]}
    return columns
