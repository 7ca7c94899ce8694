"""BalanceMix on examples small enough to do by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from ltgc_local.methods.ltgc.balance_mix import mix, mix_masked


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
