"""BalanceMix on examples small enough to do by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from ltgc_local.training.balance_mix import BalancedSampler, effective_prior, mix, shuffled


def test_two_images_of_two_by_two_pixels_are_mixed_by_hand() -> None:
    # lam 0.25: 0.25 * [[1, 2], [3, 4]] + 0.75 * [[5, 6], [7, 8]] = [[4, 5], [6, 7]]; lam 1 takes the first alone.
    one = torch.tensor([[[[1.0, 2], [3, 4]]], [[[1, 0], [0, 1]]]])  # (2, 1, 2, 2)
    other = torch.tensor([[[[5.0, 6], [7, 8]]], [[[9, 9], [9, 9]]]])
    mixed = mix(one, other, torch.tensor([0.25, 1.0]))
    assert mixed.tolist() == [[[[4, 5], [6, 7]]], [[[1, 0], [0, 1]]]]


def test_targets_are_mixed_with_the_same_share_and_sum_to_one() -> None:
    mixed = mix(
        torch.tensor([[1.0, 0, 0], [0, 1, 0]]), torch.tensor([[0.0, 0, 1], [0, 1, 0]]), torch.tensor([0.25, 0.5])
    )
    assert mixed.tolist() == [[0.25, 0, 0.75], [0, 1, 0]]
    assert mixed.sum(1).tolist() == [1, 1]


def test_every_class_is_drawn_equally_often() -> None:
    labels = np.repeat([0, 1, 2, 3], [1000, 100, 10, 1])
    rows = BalancedSampler(labels, np.random.default_rng(0)).take(8000)
    # 2000 expected of each, standard deviation sqrt(8000 * 1/4 * 3/4) = 38.7: five of them are 194.
    assert np.abs(np.bincount(labels[rows]) - 2000).max() < 194


def test_a_class_is_gone_through_before_an_image_comes_again() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 0])
    rows = BalancedSampler(labels, np.random.default_rng(1)).take(600)
    for class_id in (0, 1):
        of_class = [int(row) for row in rows if labels[row] == class_id]
        size = int((labels == class_id).sum())
        passes = [tuple(of_class[start : start + size]) for start in range(0, len(of_class) - size + 1, size)]
        assert all(len(set(one)) == size for one in passes)
        assert len(set(passes)) > 1  # in another order each time


def test_a_seed_gives_the_same_rows_however_they_are_taken() -> None:
    labels = np.array([0, 0, 1, 2, 2])
    one, other = (BalancedSampler(labels, np.random.default_rng(7)) for _ in range(2))
    assert one.take(5).tolist() == other.take(5).tolist()
    assert one.take(40).tolist() == other.take(40).tolist()
    assert one.take(40).tolist() != BalancedSampler(labels, np.random.default_rng(8)).take(40).tolist()


def test_class_ids_may_have_gaps() -> None:
    rows = BalancedSampler(np.array([5, 9, 9]), np.random.default_rng(0)).take(50)
    assert set(rows.tolist()) == {0, 1, 2}


def test_shuffled_yields_every_row_once_a_pass() -> None:
    order = shuffled(5, np.random.default_rng(0))
    passes = [[next(order) for _ in range(5)] for _ in range(4)]
    assert all(Counter(one) == Counter(range(5)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_the_effective_prior_by_hand() -> None:
    # C = 4, sum(N) = 10: 0.125 + 0.5 * [0, 0, 4, 6] / 10.
    prior = effective_prior(np.array([0, 0, 4, 6]))
    assert prior == pytest.approx([0.125, 0.125, 0.325, 0.425])
    assert prior.sum() == pytest.approx(1)


@pytest.mark.parametrize(("num_tail", "factor"), [(136, 8.4), (615, 2.6)])
def test_the_tail_weighs_as_much_too_much_as_the_card_says(num_tail: int, factor: float) -> None:
    # ImageNet-LT, C = 1000: 136 classes below 20 images, 615 (136 + 479) up to 100. A class of the head has
    # q = 0.5/1000; one of the tail on average 0.5/1000 + 0.5/num_tail: 1 + 1000/num_tail times as much, 8.35 and 2.63.
    generated = np.zeros(1000)
    generated[-num_tail:] = 300 - np.linspace(5, 100, num_tail)  # N_y = K_y - M_y
    prior = effective_prior(generated)
    assert prior[-num_tail:].mean() / prior[0] == pytest.approx(factor, abs=0.05)
