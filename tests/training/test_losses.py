"""The losses on soft labels, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ltgc_local.training.losses import scaled_log, soft_cross_entropy


def test_soft_cross_entropy_by_hand() -> None:
    # logits (0, ln 3): softmax (1/4, 3/4). Targets (1/2, 1/2): (ln 4 + ln 4/3) / 2 = 0.8370. Targets (0, 1): 0.2877.
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    targets = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    expected = ((math.log(4) + math.log(4 / 3)) / 2 + math.log(4 / 3)) / 2
    assert soft_cross_entropy(logits, targets, None).item() == pytest.approx(expected)


def test_the_log_prior_is_added_before_the_softmax() -> None:
    # Equal logits and prior (1/4, 3/4): softmax is the prior; the loss of the rare class is ln 4.
    prior = torch.tensor([0.25, 0.75]).log()
    loss = soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), prior)
    assert loss.item() == pytest.approx(math.log(4))


def test_a_uniform_prior_changes_nothing_and_hard_targets_are_plain_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1])
    targets = F.one_hot(labels, 3).float()
    plain = soft_cross_entropy(logits, targets, None)
    assert torch.allclose(plain, F.cross_entropy(logits, labels))
    assert torch.allclose(plain, soft_cross_entropy(logits, targets, torch.full((3,), 1 / 3).log()))


def test_logit_adjustment_on_a_mixed_label_by_hand() -> None:
    # Logits (ln 2, 0), prior (0.8, 0.2), tau 1: softmax of (2 * 0.8, 0.2) = (8/9, 1/9).
    # Label 3/4 of the first: 3/4 ln 9/8 + 1/4 ln 9. With tau 1/2: (2 * sqrt(0.8), sqrt(0.2)) = (0.8, 0.2), as 4 : 1.
    logits, targets, prior = torch.tensor([[math.log(2), 0]]), torch.tensor([[0.75, 0.25]]), np.array([0.8, 0.2])
    whole = 0.75 * math.log(9 / 8) + 0.25 * math.log(9)
    assert soft_cross_entropy(logits, targets, scaled_log(prior)).item() == pytest.approx(whole, rel=1e-5)
    half = 0.75 * math.log(5 / 4) + 0.25 * math.log(5)
    assert soft_cross_entropy(logits, targets, scaled_log(prior, 0.5)).item() == pytest.approx(half, rel=1e-5)
    assert soft_cross_entropy(logits, targets, scaled_log(prior, 0)) == soft_cross_entropy(logits, targets, None)


def test_balanced_softmax_is_logit_adjustment_by_counts() -> None:
    # Ren et al.: n_y e^z_y / sum_c n_c e^z_c. Counts (6, 2), logits (0, ln 3): (6, 6), so ln 2 whatever the label.
    counts = np.array([6, 2])
    logits = torch.tensor([[0, math.log(3)]])
    for targets in (torch.tensor([[1.0, 0]]), torch.tensor([[0.3, 0.7]])):
        by_counts = soft_cross_entropy(logits, targets, scaled_log(counts))
        by_shares = soft_cross_entropy(logits, targets, scaled_log(counts / counts.sum()))
        assert by_counts.item() == pytest.approx(math.log(2), rel=1e-5)
        assert by_shares.item() == pytest.approx(math.log(2), rel=1e-5)


def test_a_mixed_label_costs_the_mean_of_the_two_labels() -> None:
    logits = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    prior = scaled_log(np.array([0.5, 0.3, 0.2]))
    first, second, mixed = (
        soft_cross_entropy(logits, torch.tensor([row]), prior).item()
        for row in ([1.0, 0, 0], [0, 0, 1.0], [0.25, 0, 0.75])
    )
    assert mixed == pytest.approx(0.25 * first + 0.75 * second, rel=1e-5)


def test_a_class_without_images_leaves_the_loss_a_number() -> None:
    log_prior = scaled_log(np.array([1.0, 0]))
    assert log_prior[0] == 0
    assert torch.isfinite(soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]), log_prior))
