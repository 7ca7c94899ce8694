"""BalanceMix on examples small enough to do by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from ltgc_local.training.balance_mix import (
    BalancedSampler,
    class_shares,
    effective_prior,
    mix,
    mix_masked,
    shuffled,
)


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


def test_a_mask_puts_a_rectangle_of_the_other_image_into_the_first() -> None:
    # lam 3/4 of 4 x 4 pixels: a rectangle of sides 4 * sqrt(1/4) = 2, so 4 of 16 pixels; lam 1 and 0 are whole images.
    one, other = torch.zeros(3, 1, 4, 4), torch.ones(3, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    mixed, lam = mix_masked(one, other, torch.tensor([0.75, 1.0, 0.0]), generator)
    assert lam.tolist() == [0.75, 1, 0]
    assert mixed[0].sum() == 4
    rows, columns = mixed[0, 0].sum(1).tolist(), mixed[0, 0].sum(0).tolist()
    assert sorted(rows) == sorted(columns) == [0, 0, 2, 2]
    assert mixed[1].sum() == 0
    assert mixed[2].sum() == 16


def test_the_rectangle_lies_anywhere_and_the_share_is_that_of_the_pixels() -> None:
    # 3 x 5 pixels, lam 0.6: sides round(3 * 0.632) = 2 and round(5 * 0.632) = 3, so 1 - 6/15 = 0.6 in 2 x 3 places.
    one, other = torch.zeros(600, 1, 3, 5), torch.ones(600, 1, 3, 5)
    mixed, lam = mix_masked(one, other, torch.full((600,), 0.6), torch.Generator().manual_seed(0))
    assert lam.tolist() == pytest.approx([0.6] * 600)
    places = Counter(tuple(image[0].nonzero()[0].tolist()) for image in mixed)
    assert set(places) == {(row, column) for row in range(2) for column in range(3)}
    assert min(places.values()) > 100 - 5 * 9.1  # 100 expected of each, standard deviation 9.1


def test_a_mask_has_the_share_that_was_drawn_on_average() -> None:
    # Unlike CutMix, whose clipped rectangles leave more to the first image. Rounding: a side to half a pixel of 16.
    lam = torch.from_numpy(np.random.default_rng(0).beta(1, 3, 4000)).float()
    zeros = torch.zeros(4000, 1, 16, 16)
    _, shares = mix_masked(zeros, zeros, lam, torch.Generator().manual_seed(0))
    assert (shares - lam).abs().max() < 1 / 16
    assert shares.mean().item() == pytest.approx(0.25, abs=0.02)  # E[Beta(1, 3)]; standard error 0.003


def test_class_shares_by_hand() -> None:
    labels = np.array([0, 0, 0, 2])
    assert class_shares(labels, 4, balanced=True).tolist() == [0.5, 0, 0.5, 0]
    assert class_shares(labels, 4, balanced=False).tolist() == [0.75, 0, 0.25, 0]


def test_the_effective_prior_by_hand() -> None:
    # C = 4, sum(N) = 10: 0.125 + 0.5 * [0, 0, 4, 6] / 10. With E[lam] = 3/4: 0.1875 + 0.25 * [0, 0, 4, 6] / 10.
    balanced, generated = np.full(4, 0.25), np.array([0, 0, 0.4, 0.6])
    assert effective_prior(balanced, generated) == pytest.approx([0.125, 0.125, 0.325, 0.425])
    assert effective_prior(balanced, generated, 0.75) == pytest.approx([0.1875, 0.1875, 0.2875, 0.3375])
    assert effective_prior(balanced, generated, 0.75).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    # ImageNet-LT, C = 1000: 136 classes below 20 images, 615 (136 + 479) up to 100. A class of the head has
    # q = E[lam]/1000; one of the tail on average E[lam]/1000 + (1 - E[lam])/num_tail. At E[lam] = 1/2 that is
    # 1 + 1000/num_tail times as much: 8.35 and 2.63. At 0.9 (Beta(9, 1)): 1 + 1000/(9 num_tail), 1.82 and 1.18.
    ("num_tail", "original_share", "factor"),
    [(136, 0.5, 8.35), (615, 0.5, 2.63), (136, 0.9, 1.82), (615, 0.9, 1.18)],
)
def test_the_tail_weighs_as_much_too_much_as_is_known(num_tail: int, original_share: float, factor: float) -> None:
    generated = np.zeros(1000)
    generated[-num_tail:] = 300 - np.linspace(5, 100, num_tail)  # N_y = K_y - M_y
    prior = effective_prior(np.full(1000, 1 / 1000), generated / generated.sum(), original_share)
    assert prior[-num_tail:].mean() / prior[0] == pytest.approx(factor, abs=0.01)
