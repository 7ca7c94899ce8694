"""The cosine head, by hand."""

from __future__ import annotations

import torch

from ltgc_local.training.classifier import Classifier, CosineHead, Ensemble
from ltgc_local.training.tta import combine


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


def test_an_ensemble_says_what_its_towers_say_together() -> None:
    towers = [torch.nn.Linear(3, 4), torch.nn.Linear(3, 4)]
    images, log_n = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0, 2, 1, 0])
    found = Ensemble(towers, (0.3, 0.7), 0.5, log_n)(images)
    assert torch.allclose(found, combine([tower(images) for tower in towers], (0.3, 0.7), 0.5, log_n))
