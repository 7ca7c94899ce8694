"""Intervals against the textbook, and how often they cover the truth on synthetic data."""

from __future__ import annotations

import numpy as np
import pytest

from ltgc_local.evaluation.intervals import (
    INTERVAL_KEYS,
    Resampling,
    accuracy_intervals,
    over_seeds,
    t_quantile,
)


@pytest.mark.parametrize(
    ("degrees", "level", "expected"),
    [(1, 0.95, 12.706), (2, 0.95, 4.303), (3, 0.95, 3.182), (4, 0.95, 2.776), (4, 0.99, 4.604), (30, 0.9, 1.697)],
)
def test_quantiles_are_those_of_students_table(degrees: int, level: float, expected: float) -> None:
    assert t_quantile(level, degrees) == pytest.approx(expected, abs=5e-4)


def test_seeds_have_mean_standard_deviation_and_a_t_interval() -> None:
    # 79, 80, 81: sd 1, half width 4.303 / sqrt(3) = 2.484
    found = over_seeds([79.0, 80.0, 81.0])
    assert (found.mean, found.sd) == (80.0, 1.0)
    assert found.interval == pytest.approx((77.516, 82.484), abs=1e-3)
    assert over_seeds([3.0]).interval is None and over_seeds([3.0]).sd is None


def test_the_same_seed_gives_the_same_interval_and_every_group_has_its_own() -> None:
    labels = np.repeat([0, 1, 2], 50)
    correct = np.arange(150) % 3 > 0
    counts = {0: 500, 1: 50, 2: 5}
    one, again = (accuracy_intervals(correct, labels, counts, Resampling(seed=4)) for _ in range(2))
    assert one == again != accuracy_intervals(correct, labels, counts, Resampling(seed=5))
    assert set(one) == set(INTERVAL_KEYS)
    for key, interval in one.items():
        assert interval is not None and interval[0] < 66.7 < interval[1], key


def test_a_group_without_images_has_no_interval() -> None:
    found = accuracy_intervals(np.array([True, False]), np.array([0, 0]), {0: 500}, Resampling())
    assert found["few"] is None and found["many"] == found["all"]


def test_what_is_always_right_has_an_interval_without_width() -> None:
    assert accuracy_intervals(np.ones(9, bool), np.repeat([0, 1, 2], 3), {}, Resampling())["all"] == (100.0, 100.0)


def test_the_width_is_what_the_binomial_says() -> None:
    # one class, 400 images, half right: +- 1.96 * sqrt(0.25 / 399) = +- 4.906 points
    low, high = accuracy_intervals(np.arange(400) % 2 == 0, np.zeros(400, int), {}, Resampling(resamples=20000))[
        "all"
    ] or (0, 0)
    assert (low, high) == pytest.approx((50 - 4.906, 50 + 4.906), abs=0.3)


def test_a_paired_difference_sees_only_the_images_on_which_two_models_differ() -> None:
    labels = np.zeros(1000, int)
    other = np.arange(1000) % 2 == 0
    one = other.copy()
    one[1:101:2] = True  # right on 50 more images, wrong on none that the other gets
    found = accuracy_intervals(one, labels, {}, Resampling(), minus=other)["all"]
    assert found is not None and found[0] > 3.5 and found[1] < 6.5  # unpaired: +- 4.4 points
    assert accuracy_intervals(one, labels, {}, Resampling(), minus=one)["all"] == (0.0, 0.0)


@pytest.mark.parametrize("images_per_class", [3, 20])  # iNaturalist 2018 has 3
def test_the_interval_covers_the_truth_as_often_as_it_says(images_per_class: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), images_per_class)
    covered = 0
    for trial in range(400):
        truth = rng.uniform(0.2, 0.95, 60)
        correct = rng.random(len(labels)) < truth[labels]
        interval = accuracy_intervals(correct, labels, {}, Resampling(0.9, 400, trial))["all"]
        assert interval is not None
        covered += interval[0] <= 100 * truth.mean() <= interval[1]
    assert 0.86 <= covered / 400 <= 0.94  # 0.9 give or take 2.7 standard errors


def test_many_classes_are_resampled_in_parts_that_add_up() -> None:
    labels = np.repeat(np.arange(700), 4)
    correct = np.random.default_rng(1).random(len(labels)) < 0.7
    low, high = accuracy_intervals(correct, labels, {}, Resampling())["all"] or (0, 0)
    # the mean of 700 classes of 4 images: 1.96 * sqrt(mean of p (1 - p) / 3 / 700), about 1.6 points
    assert low < 100 * correct.mean() < high and 2.5 < high - low < 4.0
