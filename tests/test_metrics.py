"""Accuracies against counting by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.datasets.groups import SHOTS, shot_of
from ltgc_local.evaluation.metrics import accuracies, calibration_error, measure, over_classes


def test_a_worked_example() -> None:
    # Class 0 (many, 500 images): 3 of 4 right. Class 1 (medium, 50): 1 of 2. Class 2 (few, 5): 0 of 1. Class 3 (few,
    # 19): 1 of 1. All: 5 of 8 = 62.5; few: 1 of 2 = 50: a group's accuracy counts images, not classes.
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    predicted = np.array([0, 0, 0, 1, 1, 0, 3, 3])
    assert accuracies(predicted, labels, {0: 500, 1: 50, 2: 5, 3: 19}) == {
        "all": 62.5,
        "many": 75.0,
        "medium": 50.0,
        "few": 50.0,
        "per_class": {"0": 75.0, "1": 50.0, "2": 0.0, "3": 100.0},
    }


def test_a_group_without_images_has_no_accuracy() -> None:
    result = accuracies(np.array([0, 0]), np.array([0, 0]), {0: 500, 1: 5})
    assert (result["many"], result["medium"], result["few"]) == (100.0, None, None)
    assert result["per_class"] == {"0": 100.0}


def test_a_class_without_training_images_is_few() -> None:
    assert accuracies(np.array([7]), np.array([7]), {0: 500})["few"] == 100.0


def test_no_images_have_no_accuracy() -> None:
    empty = np.array([], dtype=np.int64)
    assert accuracies(empty, empty, {0: 1})["all"] is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_every_number_is_what_counting_gives(pairs: list[tuple[int, int]]) -> None:
    counts = {0: 1000, 1: 101, 2: 100, 3: 20, 4: 19}
    result = accuracies(np.array([p for p, _ in pairs]), np.array([label for _, label in pairs]), counts)
    seen = Counter(shot_of(counts[label]) for _, label in pairs)
    right = Counter(shot_of(counts[label]) for p, label in pairs if p == label)
    for shot in SHOTS:
        assert result[shot] == (round(100 * right[shot] / seen[shot], 4) if seen[shot] else None)
    assert result["all"] == round(100 * sum(right.values()) / len(pairs), 4)


def test_means_over_classes_by_hand() -> None:
    # 100, 50 and 25 %: arithmetic 58.333, harmonic 3 / (0.01 + 0.02 + 0.04) = 42.857, geometric 125,000^(1/3) = 50
    assert over_classes(np.array([100.0, 50.0, 25.0])) == {
        "macro": 58.3333,
        "worst": 25.0,
        "harmonic": 42.8571,
        "geometric": 50.0,
    }


def test_one_class_that_is_never_right_makes_harmonic_and_geometric_mean_zero() -> None:
    assert over_classes(np.array([100.0, 0.0])) == {"macro": 50.0, "worst": 0.0, "harmonic": 0.0, "geometric": 0.0}


def test_no_class_has_no_mean() -> None:
    assert set(over_classes(np.array([])).values()) == {None}
    assert calibration_error(np.array([]), np.array([], dtype=bool)) is None


def test_the_calibration_error_of_four_images_by_hand() -> None:
    # Two bins (0, 0.5] and (0.5, 1]. Low: confidences 0.4, 0.5, one right: |1/2 - 0.45| = 0.05, two of four images.
    # High: 0.9, 0.7, both right: |1 - 0.8| = 0.2, two of four. 0.5 * 0.05 + 0.5 * 0.2 = 12.5 %.
    confidence = np.array([0.4, 0.5, 0.9, 0.7])
    assert calibration_error(confidence, np.array([True, False, True, True]), num_bins=2) == 12.5


def test_a_confidence_of_one_or_nought_has_a_bin_and_the_sure_and_right_are_calibrated() -> None:
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0
    assert calibration_error(np.array([1.0, 0.0]), np.array([False, False])) == 50.0


def test_measure_has_all_of_accuracies_and_more() -> None:
    predicted, labels, counts = np.array([0, 1, 1]), np.array([0, 0, 1]), {0: 500, 1: 5}
    found = measure(predicted, np.array([0.8, 0.6, 0.6]), labels, counts)
    plain = accuracies(predicted, labels, counts)
    assert {key: found[key] for key in plain} == plain
    assert (found["macro"], found["worst"]) == (75.0, 50.0)
    # bins of 1/15: 0.8 alone |1 - 0.8|, and 0.6 twice |1/2 - 0.6|: (0.2 + 2 * 0.1) / 3
    assert found["calibration_error"] == 13.3333
