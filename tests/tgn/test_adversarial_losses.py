"""R1, the path length and the non-saturating losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ltgc_local.methods.tgn.cdtg.losses import (
    discriminator_loss,
    generator_loss,
    path_lengths,
    path_penalty,
    r1_penalty,
)


def test_the_losses_at_known_logits() -> None:
    # softplus(0) = ln 2; softplus(-1) = ln(1 + 1/e)
    zero, one = torch.zeros(3, 1), torch.ones(3, 1)
    assert discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert discriminator_loss(one, -one).item() == pytest.approx(2 * math.log(1 + math.exp(-1)))
    assert generator_loss(one).item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_r1_is_the_mean_squared_gradient_of_the_logits() -> None:
    # D(x) = a * sum(x^2) / 2 has dD/dx = a x, so R1 = a^2 * mean over the batch of |x|^2, and d R1 / d a = 2 R1 / a.
    a = torch.tensor(3.0, requires_grad=True)
    images = torch.randn(4, 3, 5, 5)
    penalty = r1_penalty(lambda x: a * x.square().sum((1, 2, 3))[:, None] / 2, images)
    expected = 9 * images.square().sum((1, 2, 3)).mean().item()
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    penalty.backward()
    assert a.grad is not None and a.grad.item() == pytest.approx(2 * expected / 3, rel=1e-5)


def test_the_path_length_of_a_linear_generator() -> None:
    # x = M w_l summed over two layers: the gradient of y . x / sqrt(HW) by each layer's w is M^T y / sqrt(HW).
    matrix = torch.randn(3 * 4 * 4, 6, requires_grad=True)
    styles = torch.randn(2, 2, 6, requires_grad=True)
    images = (styles.sum(1) @ matrix.T).view(2, 3, 4, 4)
    noise = torch.randn(2, 3, 4, 4)
    lengths = path_lengths(images, styles, noise)
    projected = noise.flatten(1) @ matrix / 4  # sqrt(4 * 4)
    expected = projected.square().sum(1).sqrt()  # the mean over two equal layers is either
    assert torch.allclose(lengths, expected, rtol=1e-5)
    lengths.sum().backward()
    assert matrix.grad is not None and matrix.grad.abs().max() > 0


def test_the_path_penalty_moves_its_mean() -> None:
    penalty, mean = path_penalty(torch.tensor([1.0, 3.0]), torch.tensor(0.0), 0.25)
    assert mean.item() == 0.5  # 0 + 0.25 * (2 - 0)
    assert penalty.item() == pytest.approx((0.5**2 + 2.5**2) / 2)
