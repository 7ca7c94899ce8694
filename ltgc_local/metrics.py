"""Accuracies of long-tail recognition, in percent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ltgc_local.longtail import SHOTS, shot_of


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
