"""CDTG's losses: StyleGAN2's adversarial loss with its penalties, and two that keep an image in its class.

    L_class = -log softmax(C(x))_y                          C: KMDN's frozen tail network
    L_clip  = -log softmax_k(s <E_I(x), E_T(t_k)>)_y        t_k: "A photo of a {name_k}", in the manifest's order

The gradients of both consistency losses reach the generator through the pixels. Differs from the released code, which
only logs them: there CLIP sees uint8 images, which pass no gradient, with one softmax too many and prompts in a
different order from the labels. Differs from StyleGAN2-ADA: R1 is taken at the augmented images
(``adaptive_augmentation`` says why).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

from ltgc_local.backends.protocols import ClipModel


def discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return mean softplus(-D(x)) + mean softplus(D(G(z)))."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Return mean softplus(-D(G(z)))."""
    return F.softplus(-fake_logits).mean()


def r1_penalty(logits_of: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Return mean ||dD(x)/dx||^2 over real images (B, C, H, W) as the discriminator sees them."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(logits_of(images).sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def path_lengths(images: torch.Tensor, styles: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return ||J^T y|| of each image, (B,): the length of its gradient along random pixels y.

    Args:
        images: (B, C, H, W), made from ``styles``.
        styles: (B, L, D); squares are averaged over the layers.
        noise: standard normal, in the shape of the images.
    """
    scaled = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), styles, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def path_penalty(lengths: torch.Tensor, mean: torch.Tensor, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean (length - a)^2 and a, the running mean of lengths including these (B,)."""
    moved = mean + decay * (lengths.detach().mean() - mean)
    return (lengths - moved).square().mean(), moved


class ClipJudge(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] -> logits (B, K) over prompts; frozen, and differentiable in the images."""

    mean: torch.Tensor
    std: torch.Tensor
    texts: torch.Tensor

    def __init__(self, clip: ClipModel, prompts: Sequence[str]) -> None:
        super().__init__()
        self.tower = clip.visual.requires_grad_(False).eval()
        self.scale = clip.logit_scale
        self.size_px, _ = clip.resize(Image.new("RGB", (64, 64))).size
        mean, std = clip.normalisation
        self.register_buffer("mean", mean.to(clip.device))
        self.register_buffer("std", std.to(clip.device))
        # Cloned, because tensors made in inference mode cannot take part in a gradient.
        self.register_buffer("texts", clip.encode_texts(prompts).clone().to(clip.device))  # (K, E)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = (self.size_px, self.size_px)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
        features = self.tower((images / 2 + 0.5 - self.mean) / self.std)
        return self.scale * F.normalize(features.float(), dim=-1) @ self.texts.T


def consistency_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of logits (B, K) over the images whose label is below K; 0 if there is none.

    Labels from K on are head classes, which neither the tail network nor the tail's prompts cover.
    """
    known = labels < logits.shape[1]
    losses = F.cross_entropy(logits.float(), torch.where(known, labels, 0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)
