"""Curves of rare against frequent accuracy, against ones that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ltgc_local.evaluation.intervals import Resampling, resampled_means
from ltgc_local.evaluation.rivals import (
    Sides,
    Tilted,
    _rare_at,
    at_equal_frequent,
    compare_curves,
    draw_curve,
    measure_rivals,
    sides_of,
)
from ltgc_local.evaluation.tilt import PLAIN_TAU, TAUS, log_counts, tilted_classes

SIDES = Sides("few", "many", {1}, {0})
COUNTS = {0: 200, 1: 5}
LABELS = np.repeat([0, 1], 20)


def at_each_tau(frequent: np.ndarray, rare: np.ndarray) -> np.ndarray:
    """Return predictions (40, T) that get these numbers (T) of the 20 frequent and of the 20 rare images right."""
    images = np.arange(20)[:, None]
    return np.concatenate([np.where(images < frequent, 0, 1), np.where(images < rare, 1, 0)])


#: Frequent falls from 20 to 10 right and rare rises, the same for both arms but for 2 images: 10 points.
FREQUENT = np.linspace(20, 10, len(TAUS)).round().astype(int)
CONTROL = at_each_tau(FREQUENT, 25 - FREQUENT)
OURS = at_each_tau(FREQUENT, 27 - FREQUENT)


def test_the_taus_hold_0() -> None:
    assert TAUS[PLAIN_TAU] == 0
    assert tuple(sorted(TAUS)) == TAUS


def test_tilting_subtracts_tau_log_n() -> None:
    logits, log_n = torch.tensor([[1.0, 0.0]]), log_counts(COUNTS)
    classes = tilted_classes(logits, log_n)[0]
    # Class 0 leads by 1 and loses tau * log(200 / 5) = 3.689 tau against class 1.
    assert [int(c) for c, tau in zip(classes, TAUS, strict=True) if tau <= 0.25] == [0] * sum(t <= 0.25 for t in TAUS)
    assert [int(c) for c, tau in zip(classes, TAUS, strict=True) if tau >= 0.3] == [1] * sum(t >= 0.3 for t in TAUS)


def test_a_class_without_training_images_counts_as_one_image() -> None:
    assert log_counts({1: 0, 0: 1}).tolist() == [0, 0]


def test_a_curve_is_accuracy_by_tau() -> None:
    curve = draw_curve(LABELS[:, None] == OURS, LABELS, SIDES)
    assert curve["many"] == (5.0 * FREQUENT).tolist()
    assert curve["few"] == (5.0 * (27 - FREQUENT)).tolist()
    assert curve["all"] == [67.5] * len(TAUS)


def test_the_lead_is_the_mean_distance_of_the_curves() -> None:
    found = compare_curves(LABELS[:, None] == OURS, LABELS[:, None] == CONTROL, LABELS, SIDES, Resampling())
    assert found is not None
    assert found["points"] == pytest.approx(10)
    assert found["least"] == pytest.approx(10)
    # 5 points of accuracy an image: ours knows rare images as well as frequent ones at 13.5 of 20 right, the control at
    # 12.5, and so the comparison ends at the control's: 12 of 20.
    assert found["between"] == [60, 100]
    assert found["interval"][0] < 10 < found["interval"][1]


def test_without_a_balance_all_that_both_reach_is_compared() -> None:
    rarely = at_each_tau(FREQUENT, 22 - FREQUENT - 8)
    found = compare_curves(rarely == LABELS[:, None], rarely == LABELS[:, None], LABELS, SIDES, Resampling())
    assert found is not None
    assert found["between"] == [50, 100]


def test_a_shift_of_the_prior_is_no_lead() -> None:
    """The same classifier at another tau is another place on the same curve."""
    shifted = np.roll(CONTROL, 3, axis=1)
    shifted[:, :3] = CONTROL[:, :1]
    found = compare_curves(shifted == LABELS[:, None], LABELS[:, None] == CONTROL, LABELS, SIDES, Resampling())
    assert found is not None
    assert found["points"] == pytest.approx(0)
    assert found["least"] == pytest.approx(0)


def test_curves_that_share_no_accuracy_are_not_compared() -> None:
    high, low = at_each_tau(np.full(len(TAUS), 18), FREQUENT), at_each_tau(np.full(len(TAUS), 5), FREQUENT)
    assert compare_curves(high == LABELS[:, None], low == LABELS[:, None], LABELS, SIDES, Resampling()) is None


def test_between_points_the_curve_is_a_line_and_beaten_points_do_not_count() -> None:
    frequent, rare = np.array([80.0, 70, 75, 60]), np.array([20.0, 40, 10, 50])  # (75, 10) is beaten by (80, 20)
    found = _rare_at(np.array([60.0, 65, 70, 75, 80]), frequent, rare)
    # Where a point is beaten, the curve is what beats it: 20 at 75.
    assert found.tolist() == [50, 45, 40, 20, 20]


def test_tau_at_equal_frequent_is_chosen_on_validation_and_measured_on_test() -> None:
    # On validation, ours gets as many frequent images right as the control's 18 (at tau 0) where it is 18 itself.
    place = int(np.flatnonzero(FREQUENT[PLAIN_TAU] == FREQUENT)[0])
    lowered = at_each_tau(np.maximum(FREQUENT - 3, 0), 27 - FREQUENT)  # ours, worse on frequent images by 3
    validation = Tilted({"ltgc": lowered, "control": CONTROL}, LABELS)
    test = Tilted({"ltgc": OURS, "control": CONTROL}, LABELS)
    found = at_equal_frequent(validation, test, "ltgc", "control", SIDES, COUNTS, Resampling())
    chosen = TAUS.index(found["tau"])
    assert FREQUENT[chosen] - 3 == FREQUENT[PLAIN_TAU]
    assert chosen < place
    assert found["one"] == {"all": 67.5, "few": 5.0 * (27 - FREQUENT[chosen]), "many": 5.0 * FREQUENT[chosen]}
    assert found["other"]["many"] == 5.0 * FREQUENT[PLAIN_TAU]
    assert set(found["interval"]) == {"all", "few", "many"}


def test_the_parts_of_the_method_are_no_rivals() -> None:
    classes = {"zero_shot": CONTROL, "control": CONTROL, "ltgc_1": OURS, "ltgc": OURS}
    tested = Tilted(classes, LABELS)
    found = measure_rivals(tested, tested, "ltgc", SIDES, COUNTS, Resampling())
    assert list(found["versus"]) == ["zero_shot", "control"]
    assert list(found["curves"]) == list(classes)
    assert found["versus"]["control"]["curve"]["points"] == pytest.approx(10)
    assert found["tuned"]["ltgc"]["all"] == 67.5


def test_without_images_to_choose_by_nothing_is_chosen() -> None:
    found = measure_rivals(
        None, Tilted({"control": CONTROL, "ltgc": OURS}, LABELS), "ltgc", SIDES, COUNTS, Resampling()
    )
    assert found["tuned"] == {}
    assert found["versus"]["control"]["at_equal"] is None
    assert found["versus"]["control"]["curve"] is not None


@pytest.mark.parametrize("group", [0, 1])
def test_a_group_without_test_images_cannot_be_compared(group: int) -> None:
    mine = group == LABELS
    tested = Tilted({"control": CONTROL[mine], "ltgc": OURS[mine]}, LABELS[mine])
    assert measure_rivals(tested, tested, "ltgc", SIDES, COUNTS, Resampling()) == {}


def test_where_no_validation_image_is_of_a_frequent_class_nothing_is_chosen() -> None:
    tested = Tilted({"control": CONTROL, "ltgc": OURS}, LABELS)
    rare = LABELS == 1
    validation = Tilted({"control": CONTROL[rare], "ltgc": OURS[rare]}, LABELS[rare])
    versus = measure_rivals(validation, tested, "ltgc", SIDES, COUNTS, Resampling())["versus"]["control"]
    assert versus["at_equal"] is None and versus["curve"]["points"] == pytest.approx(10)


def test_sides() -> None:
    few = sides_of({0: 500, 1: 50, 2: 3})
    assert few == Sides("few", "many", {2}, {0})
    assert sides_of({0: 500, 1: 50}) == Sides("medium", "many", {1}, {0})
    assert sides_of({0: 500, 1: 300}) is None
    assert sides_of({0: 500, 1: 300}, [1]) == Sides("tail", "head", {1}, {0})
    assert sides_of({0: 500, 1: 300}, []) is None


def test_resampled_means_vary_as_the_mean_does() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [100, 300])
    values = np.stack([rng.random(400) < 0.3, rng.random(400) < 0.8, np.ones(400)], axis=1)
    found = resampled_means(values, labels, Resampling(resamples=4000))
    assert found.shape == (4000, 3)
    assert found.mean(0) == pytest.approx(values.mean(0), abs=0.005)
    by_class = [values[labels == c, 0] for c in (0, 1)]
    error = np.sqrt(sum((len(v) / 400) ** 2 * v.var(ddof=1) / len(v) for v in by_class))
    assert found[:, 0].std() == pytest.approx(error, rel=0.05)
    assert found[:, 2] == pytest.approx(1)
