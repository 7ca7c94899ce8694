"""Five crops and the ensemble with zero-shot CLIP, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ltgc_local.training.tta import PredictedPrior, combine, ensemble, five_crops


def test_five_crops_are_the_corners_and_the_centre_of_the_enlarged_image() -> None:
    # 28 px and LIFT's 24 / 224: enlarged to 31 px. On a ramp to the right, right crops are 3 px further than left ones.
    ramp = Image.fromarray(np.tile(np.arange(0, 28 * 9, 9, dtype=np.uint8), (28, 1)))
    top_left, top_right, bottom_left, bottom_right, centre = (
        np.asarray(c)[:, :, 0] for c in five_crops(ramp, 28, 24 / 224)
    )
    assert top_left.shape == (28, 28)
    assert (top_left == bottom_left).all() and (top_right == bottom_right).all()
    assert (top_right[:, :25] == top_left[:, 3:]).all()
    assert (centre[:, :27] == top_left[:, 1:]).all()


def test_a_tiny_image_still_has_crops_that_differ_and_a_wide_one_is_not_squeezed() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 20, 3), dtype=np.uint8))
    crops = five_crops(noise, 8, 0.01)  # at least one pixel of margin: 9 by 22 or 23
    assert {crop.size for crop in crops} == {(8, 8)}
    assert len({crop.tobytes() for crop in crops}) == 5


def test_the_ensemble_of_log_probabilities_by_hand() -> None:
    # p = (0.8, 0.2), p_zs = (0.5, 0.5), pi = (0.9, 0.1), w = 0.5:
    # 0.5 log 0.8 + 0.5 log(0.5 / 0.9) and 0.5 log 0.2 + 0.5 log(0.5 / 0.1): products 0.4444 and 1.0, so class 1 wins
    logits, zero_shot = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.5, 0.5]]).log()
    mixed = ensemble(logits, zero_shot, torch.tensor([0.9, 0.1]).log(), 0.5)
    assert mixed[0].exp().square().tolist() == pytest.approx([0.4444, 1.0], abs=1e-4)
    plain = ensemble(logits, zero_shot, None, 0.5)
    assert plain[0].exp().square().tolist() == pytest.approx([0.4, 0.1], abs=1e-6)


def test_the_prior_counts_every_class_the_same_whatever_its_number_of_images() -> None:
    # class 0 has three images with p = (0.9, 0.1), class 1 one with (0.5, 0.5): the mean of the two is (0.7, 0.3)
    prior = PredictedPrior(2)
    prior.add(torch.tensor([[0.9, 0.1]] * 2).log(), torch.tensor([0, 0]))
    prior.add(torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log(), torch.tensor([0, 1]))
    assert prior.log().exp().tolist() == pytest.approx([0.7, 0.3])


def test_a_class_without_images_does_not_count_in_the_prior() -> None:
    prior = PredictedPrior(3)
    prior.add(torch.tensor([[0.6, 0.4, 1e-12]]).log(), torch.tensor([0]))
    assert prior.log().exp().tolist() == pytest.approx([0.6, 0.4, 1e-8], rel=1e-3)


def test_combining_by_hand() -> None:
    # p1 = (0.8, 0.2), p2 = (0.4, 0.6); w = (0.75, 0.25); tau = 0.5 with counts 4 and 1: log n = (log 4, 0).
    first, second = torch.tensor([[0.8, 0.2]]).log() + 3, torch.tensor([[0.4, 0.6]]).log() - 2  # any offset
    log_n = torch.tensor([4.0, 1.0]).log()
    found = combine([first, second], (0.75, 0.25), 0.5, log_n)[0].exp().tolist()
    assert found == pytest.approx([0.8**0.75 * 0.4**0.25 / 2, 0.2**0.75 * 0.6**0.25])


def test_a_tower_of_weight_0_says_nothing_even_where_it_is_infinitely_sure() -> None:
    sure = torch.tensor([[0.0, -torch.inf]])
    found = combine([torch.tensor([[0.5, 0.5]]).log(), sure], (1.0, 0.0), 0.0, torch.zeros(2))
    assert found.exp().tolist() == [[0.5, 0.5]]
