"""The cosine head and the losses, by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ltgc_local.training.classifier import Classifier, CosineHead, soft_cross_entropy


def test_logits_are_the_scaled_cosine_whatever_the_lengths() -> None:
    # (3, 4) with (1, 0): 3/5; with (0, 2): 4/5. Times 25: 15 and 20. Twice as long: the same.
    head = CosineHead(torch.tensor([[1.0, 0], [0, 2]]), scale=25, trainable=True)
    logits = head(torch.tensor([[3.0, 4], [6, 8]]))
    assert torch.allclose(logits, torch.tensor([[15.0, 20], [15, 20]]))


def test_a_frozen_head_does_not_train_and_a_head_keeps_its_own_vectors() -> None:
    texts = torch.eye(3)
    assert not CosineHead(texts, 25, trainable=False).weight.requires_grad
    head = CosineHead(texts, 25, trainable=True)
    assert head.weight.requires_grad
    with torch.no_grad():
        head.weight.zero_()
    assert torch.equal(texts, torch.eye(3))


def test_a_classifier_is_the_tower_and_then_the_head() -> None:
    classifier = Classifier(torch.nn.Flatten(), CosineHead(torch.tensor([[1.0, 0, 0], [0, 0, 1]]), 10, True))
    logits = classifier(torch.tensor([0.0, 0, 5]).view(1, 3, 1, 1))
    assert logits.tolist() == [[0, 10]]


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
