"""The cosine classifier on the adapted vision tower.

    logits = scale * normalise(f(x)) . normalise(w_c),   w_c = CLIP's text feature of class c at the start

The paper does not describe its head; a text-initialised cosine head is the strongest published choice (LIFT).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F

from ltgc_local.training.tta import combine


class CosineHead(nn.Module):
    """Class vectors (C, D) compared with features (B, D) by cosine; returns logits (B, C)."""

    def __init__(self, class_features: torch.Tensor, scale: float, trainable: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(class_features.clone(), requires_grad=trainable)
        self.scale = scale

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scale * F.normalize(features, dim=-1) @ F.normalize(self.weight, dim=-1).T


class Classifier(nn.Module):
    """Vision tower and head: images (B, 3, H, W) -> logits (B, C)."""

    def __init__(self, tower: nn.Module, head: CosineHead) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.tower(images))
        return logits


class Ensemble(nn.Module):
    """Several classifiers: images (B, 3, H, W) -> logits (B, C) of what they say together (``combine``)."""

    log_counts: torch.Tensor

    def __init__(
        self, towers: Sequence[nn.Module], weights: Sequence[float], tau: float, log_counts: torch.Tensor
    ) -> None:
        super().__init__()
        self.towers, self.weights, self.tau = nn.ModuleList(towers), tuple(weights), tau
        self.register_buffer("log_counts", log_counts)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return combine([tower(images) for tower in self.towers], self.weights, self.tau, self.log_counts)
