"""Accuracies of long-tail recognition, and how well confidences match them; all in percent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ltgc_local.datasets.groups import SHOTS, shot_of

#: Bins of the calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks").
CALIBRATION_BINS = 15


def measure(
    predicted: np.ndarray, confidence: np.ndarray, labels: np.ndarray, class_counts: Mapping[int, int]
) -> dict[str, object]:
    """Return ``accuracies``, the figures ``over_classes``, and the ``calibration_error``; None without images.

    Args:
        predicted, labels, class_counts: as for ``accuracies``.
        confidence: (N,) the probability, in [0, 1], of the predicted class.
    """
    result = accuracies(predicted, labels, class_counts)
    correct = predicted == labels
    per_class = np.array([100 * correct[labels == c].mean() for c in np.unique(labels)])
    return result | over_classes(per_class) | {"calibration_error": calibration_error(confidence, correct)}


def f1_scores(predicted: np.ndarray, labels: np.ndarray) -> tuple[float | None, dict[str, float]]:
    """Return macro F1 and F1 by class, in percent, over the classes that have images.

        F1 = 2 TP / (2 TP + FP + FN)

    Args:
        predicted, labels: (N,) class ids; a prediction may be a class without images, which only counts as a miss.
    """
    scores = {}
    for class_id in np.unique(labels):
        named, there = predicted == class_id, labels == class_id
        scores[str(class_id)] = round(200 * int((named & there).sum()) / int(named.sum() + there.sum()), 4)
    return (round(sum(scores.values()) / len(scores), 4) if scores else None), scores


def over_classes(per_class: np.ndarray) -> dict[str, float | None]:
    """Return the arithmetic (``macro``), harmonic and geometric mean and the minimum of accuracies per class (C,).

    The harmonic and geometric means are 0 if a class is never right.
    """
    if not len(per_class):
        return dict.fromkeys(("macro", "worst", "harmonic", "geometric"))
    worst = float(per_class.min())
    return {
        "macro": round(float(per_class.mean()), 4),
        "worst": round(worst, 4),
        "harmonic": round(len(per_class) / float((1 / per_class).sum()), 4) if worst > 0 else 0.0,
        "geometric": round(float(np.exp(np.log(per_class).mean())), 4) if worst > 0 else 0.0,
    }


def calibration_error(confidence: np.ndarray, correct: np.ndarray, num_bins: int = CALIBRATION_BINS) -> float | None:
    """Return the expected calibration error in percent.

    Bins of equal width ((m - 1) / M, m / M]; the mean over images of |accuracy - mean confidence| of the image's bin.

    Args:
        confidence: (N,) in [0, 1], of the predicted class.
        correct: (N,) bool.
    """
    if not len(correct):
        return None
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, weights=correct - confidence.astype(np.float64), minlength=num_bins)  # n_m (acc - conf)
    return round(100 * float(np.abs(gaps).sum()) / len(correct), 4)


def accuracies(predicted: np.ndarray, labels: np.ndarray, class_counts: Mapping[int, int]) -> dict[str, object]:
    """Count correct predictions, over all images and by group and class.

    Args:
        predicted, labels: (N,) class ids.
        class_counts: class id -> number of TRAINING images, which decides a class's group.

    Returns:
        ``all``, ``many``, ``medium``, ``few``: percent correct over the group's images, None for an empty group;
        ``per_class``: {class id as str: percent}.
    """
    correct = predicted == labels
    shots = np.array([shot_of(class_counts.get(int(label), 0)) for label in labels])
    result: dict[str, object] = {"all": _percent(correct)}
    for shot in SHOTS:
        result[shot] = _percent(correct[shots == shot])
    result["per_class"] = {str(c): _percent(correct[labels == c]) for c in np.unique(labels)}
    return result


def _percent(correct: np.ndarray) -> float | None:
    return round(100 * float(correct.mean()), 4) if len(correct) else None
