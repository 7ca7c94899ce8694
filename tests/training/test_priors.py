"""The class priors that losses are told, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ltgc_local.methods.ltgc.priors import class_shares, effective_prior, scaled_log


def test_logit_adjustment_on_a_mixed_label_by_hand() -> None:
    # Logits (ln 2, 0), prior (0.8, 0.2), tau 1: softmax of (2 * 0.8, 0.2) = (8/9, 1/9).
    # Label 3/4 of the first: 3/4 ln 9/8 + 1/4 ln 9. With tau 1/2: (2 * sqrt(0.8), sqrt(0.2)) = (0.8, 0.2), as 4 : 1.
    logits, targets, prior = torch.tensor([[math.log(2), 0]]), torch.tensor([[0.75, 0.25]]), np.array([0.8, 0.2])
    whole = 0.75 * math.log(9 / 8) + 0.25 * math.log(9)
    assert F.cross_entropy(logits + scaled_log(prior), targets).item() == pytest.approx(whole, rel=1e-5)
    half = 0.75 * math.log(5 / 4) + 0.25 * math.log(5)
    assert F.cross_entropy(logits + scaled_log(prior, 0.5), targets).item() == pytest.approx(half, rel=1e-5)
    assert F.cross_entropy(logits + scaled_log(prior, 0), targets) == F.cross_entropy(logits, targets)


def test_balanced_softmax_is_logit_adjustment_by_counts() -> None:
    # Ren et al.: n_y e^z_y / sum_c n_c e^z_c. Counts (6, 2), logits (0, ln 3): (6, 6), so ln 2 whatever the label.
    counts = np.array([6, 2])
    logits = torch.tensor([[0, math.log(3)]])
    for targets in (torch.tensor([[1.0, 0]]), torch.tensor([[0.3, 0.7]])):
        by_counts = F.cross_entropy(logits + scaled_log(counts), targets)
        by_shares = F.cross_entropy(logits + scaled_log(counts / counts.sum()), targets)
        assert by_counts.item() == pytest.approx(math.log(2), rel=1e-5)
        assert by_shares.item() == pytest.approx(math.log(2), rel=1e-5)


def test_a_class_without_images_leaves_the_loss_a_number() -> None:
    log_prior = scaled_log(np.array([1.0, 0]))
    assert log_prior[0] == 0
    assert torch.isfinite(F.cross_entropy(log_prior[None], torch.tensor([[0.5, 0.5]])))


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
