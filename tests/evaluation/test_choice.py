"""Weights and tau, against choices that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ltgc_local.evaluation.choice import Limit, choose, loss_of, simplex

#: Two classes: 0 has 200 training images (many), 1 has 5 (few).
COUNTS = {0: 200, 1: 5}


def logits(*odds: float) -> torch.Tensor:
    """Return logits (N, 2) whose difference, class 0 minus class 1, is ``odds``."""
    return torch.tensor([[value, 0.0] for value in odds])


def test_the_tower_that_is_right_gets_the_weight() -> None:
    labels = np.array([0, 0, 1, 1])
    right, wrong = logits(4, 4, -4, -4), logits(-9, -9, 9, 9)
    chosen = choose([right, wrong], labels, COUNTS)
    # w * 4 > (1 - w) * 9 from w > 9 / 13 on: 0.70, 0.75, ..., 1, whose middle is 0.85.
    assert chosen.weights == (0.85, 0.15)
    assert chosen.tau == 0
    assert chosen.validation == {"all": 100.0, "many": 100.0, "medium": None, "few": 100.0}


def test_tau_is_subtracted_times_log_n() -> None:
    # Both images look like class 0 by 1.0; the prior's ratio is log(200 / 5) = 3.689. Image 0 is of class 0, by 3.0.
    labels = np.array([0, 1])
    chosen = choose([logits(3.0, 1.0)], labels, COUNTS, tilts=True)
    # Both are right where 1 / 3.689 < tau < 3 / 3.689, that is from 0.30 to 0.80; the middle is 0.55.
    assert chosen.tau == pytest.approx(0.55)
    assert chosen.validation["all"] == 100


def test_without_tilting_tau_is_0() -> None:
    assert choose([logits(3.0, 1.0)], np.array([0, 1]), COUNTS).tau == 0


def test_a_limit_refuses_what_costs_too_much_on_many() -> None:
    # One tower always says 1, the other always 0; most images are of class 1.
    labels = np.array([0, 1, 1, 1])
    says_1, says_0 = logits(-1, -1, -1, -1), logits(1, 1, 1, 1)
    free = choose([says_1, says_0], labels, COUNTS)
    assert free.validation["all"] == 75
    assert free.validation["many"] == 0
    limited = choose([says_1, says_0], labels, COUNTS, limit=Limit("many", np.array([True] * 4), 0.0))
    assert limited.validation["many"] == 100
    assert limited.weights[1] > 0.5
    assert limited.within_limit


def test_a_limit_that_nothing_keeps_is_said_and_approached() -> None:
    labels = np.array([0] * 8 + [1])
    half, none = logits(*[1] * 4, *[-5] * 4, -1), logits(*[-9] * 8, -1)
    # Half of 8 images are lost: 50 points with a standard error of 100 x 0.5345 / sqrt(8) = 18.9, so 31.1 at least.
    refused = choose([half, none], labels, COUNTS, limit=Limit("many", np.array([True] * 9), 31.0))
    assert not refused.within_limit
    assert refused.validation["many"] == 50
    assert choose([half, none], labels, COUNTS, limit=Limit("many", np.array([True] * 9), 31.2)).within_limit


def test_a_limit_is_on_the_loss_against_the_control_image_by_image() -> None:
    # The control loses half of the images itself; what it loses, too, is no loss.
    labels, control = np.array([0] * 8 + [1]), np.array([True] * 4 + [False] * 5)
    half = logits(*[1] * 4, *[-5] * 4, -1)
    assert loss_of(control[:8], control[:8]) == (0.0, 0.0)
    assert choose([half], labels, COUNTS, limit=Limit("many", control, 0.0)).within_limit
    assert loss_of(np.array([True, True, False, False]), np.array([True, False, True, False])) == pytest.approx(
        (0.0, 100 * np.sqrt(2 / 3) / 2)
    )


def test_the_mean_of_the_groups_counts_few_as_much_as_many() -> None:
    # 4 images of class 0 and one of 1; one tower is right on all of class 0, the other on class 1 and one of class 0.
    labels = np.array([0, 0, 0, 0, 1])
    for_many, for_few = logits(1, 1, 1, 1, 1), logits(1, -1, -1, -1, -1)
    by_all = choose([for_many, for_few], labels, COUNTS)
    by_groups = choose([for_many, for_few], labels, COUNTS, maximise="groups")
    assert by_all.validation["all"] == 80
    assert by_groups.validation["few"] == 100
    assert by_groups.validation["many"] == 25


def test_equal_weights_are_not_chosen() -> None:
    chosen = choose([logits(1, 1), logits(-9, -9)], np.array([0, 0]), COUNTS, weighs=False)
    assert chosen.weights == (0.5, 0.5)


@pytest.mark.parametrize(("num", "choices"), [(1, 1), (2, 21), (3, 67), (4, 165), (6, 127)])
def test_weights_sum_to_1_and_are_all_there(num: int, choices: int) -> None:
    found = list(simplex(num))
    assert len(found) == len(set(found)) == choices  # binomial(steps + num - 1, num - 1), and equal ones
    assert (1 / num,) * num in found
    assert all(sum(weights) == pytest.approx(1) and len(weights) == num for weights in found)
