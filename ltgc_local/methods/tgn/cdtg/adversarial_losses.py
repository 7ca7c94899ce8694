"""StyleGAN2's losses: non-saturating, the gradient penalty R1 and the path length penalty."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F


def discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return mean softplus(-D(x)) + mean softplus(D(G(z)))."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Return mean softplus(-D(G(z)))."""
    return F.softplus(-fake_logits).mean()


def r1_penalty(logits_of: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Return mean ||dD(x)/dx||^2 over a batch (B, C, H, W) of what the discriminator sees of real images."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(logits_of(images).sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def path_lengths(images: torch.Tensor, styles: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return ||J^T y|| of each image, (B,): the length of its gradient along random pixels y.

    Args:
        images: (B, C, H, W), made of ``styles``.
        styles: (B, L, D); the mean over the layers is taken of the squares.
        noise: standard normal, of the images' shape.
    """
    scaled = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), styles, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def path_penalty(lengths: torch.Tensor, mean: torch.Tensor, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean (length - a)^2 and a, the running mean of lengths with these (B,) counted in."""
    moved = mean + decay * (lengths.detach().mean() - mean)
    return (lengths - moved).square().mean(), moved
