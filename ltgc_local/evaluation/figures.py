"""The figures that every method's evaluation writes, of what its classifiers said of the test images."""

from __future__ import annotations

from typing import Any

from ltgc_local.datasets import Corpus
from ltgc_local.datasets.groups import shot_of
from ltgc_local.evaluation.intervals import Resampling, accuracy_intervals, difference_intervals
from ltgc_local.evaluation.metrics import measure
from ltgc_local.evaluation.predictions import Predictions


def measure_predictions(
    predictions: Predictions, corpus: Corpus, resampling: Resampling, treated: str
) -> dict[str, dict[str, Any]]:
    """Return {arm: figures}; an ensemble of an arm is a value in it.

    Args:
        treated: the arm that is trained with generated images; it gets ``minus_control``, the differences to the
            control.
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
            figures["minus_control"] = difference_intervals(
                correct, predictions.predicted[control] == labels, labels, counts, resampling
            )
        if variant:
            metrics[arm][variant] = figures
        else:
            metrics[arm] = figures
    return metrics


def list_classes(corpus: Corpus) -> list[dict[str, Any]]:
    """Return every class's name, number of training images and group: what ``compare`` needs as well as predictions."""
    return [
        {"class_id": class_id, "name": corpus.class_names[class_id], "num_train": count, "shot": shot_of(count)}
        for class_id, count in corpus.class_counts().items()
    ]


def columns_of(predictions: Predictions, corpus: Corpus) -> dict[str, Any]:
    """Return what is stored of every test image: its key and label, and each arm's prediction and confidence."""
    columns: dict[str, Any] = {"key": list(corpus.test.keys), "label": corpus.test.labels}
    for name, predicted in predictions.predicted.items():
        columns |= {f"{name}.predicted": predicted, f"{name}.confidence": predictions.confidence[name]}
    return columns
