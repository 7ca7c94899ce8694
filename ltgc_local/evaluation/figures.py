"""The figures that every method's evaluation writes, from its classifiers' predictions on the test images."""

from __future__ import annotations

from typing import Any

from ltgc_local.datasets import Corpus
from ltgc_local.datasets.groups import shot_of
from ltgc_local.evaluation.intervals import Resampling, accuracy_intervals
from ltgc_local.evaluation.metrics import measure
from ltgc_local.evaluation.predictions import Predictions


def measure_predictions(
    predictions: Predictions, corpus: Corpus, resampling: Resampling, treated: str
) -> dict[str, dict[str, Any]]:
    """Return {arm: figures}; an ensemble or another view of an arm is an entry of its figures.

    Args:
        treated: the arm trained with generated images; it also gets ``minus_control``, its lead over the control.
    """
    labels, counts = corpus.test.labels, corpus.class_counts()
    metrics: dict[str, dict[str, Any]] = {}
    for name, predicted in predictions.predicted.items():
        arm, _, variant = name.partition(".")
        figures: dict[str, Any] = measure(predicted, predictions.confidence[name], labels, counts)
        correct = predicted == labels
        figures["interval"] = accuracy_intervals(correct, labels, counts, resampling)
        control = "control" + name.removeprefix(arm)
        if arm == treated and control in predictions.predicted:
            other = predictions.predicted[control] == labels
            figures["minus_control"] = accuracy_intervals(correct, labels, counts, resampling, minus=other)
        if variant:
            metrics[arm][variant] = figures
        else:
            metrics[arm] = figures
    return metrics


def list_classes(corpus: Corpus) -> list[dict[str, Any]]:
    """Return every class's name, number of training images and group, which ``compare`` needs with the predictions."""
    return [
        {"class_id": class_id, "name": corpus.class_names[class_id], "num_train": count, "shot": shot_of(count)}
        for class_id, count in corpus.class_counts().items()
    ]
