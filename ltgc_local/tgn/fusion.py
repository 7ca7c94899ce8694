"""The link from KMDN to CDTG: a latent of noise and of a real tail image's features.

    z = r * noise + (1 - r) * W f                                                    (TGN, NoiseFeatureFusion)

f are the tail network's layer-3 maps. Differs from the released code: W is trained with the generator, averaged and
saved with it; there it is in no optimiser and no checkpoint, so that generation draws a fresh random one.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn as nn

FusionForm = Literal["flatten", "pool"]


class FeatureFusion(nn.Module):
    """W: ``flatten`` reads every value of the maps (as released), ``pool`` each channel's mean over the places."""

    def __init__(self, form: FusionForm, feature_shape: tuple[int, int, int], style_dim: int) -> None:
        super().__init__()
        channels, height, width = feature_shape
        self.form, self.feature_shape = form, feature_shape
        self.linear = nn.Linear(channels * height * width if form == "flatten" else channels, style_dim)

    def forward(self, noise: torch.Tensor, features: torch.Tensor, r: torch.Tensor | float) -> torch.Tensor:
        """Fuse noise (B, D) with maps (B, C, h, w); ``r`` in [0, 1] is the noise's share, one or (B, 1)."""
        values = features.flatten(1) if self.form == "flatten" else features.mean((2, 3))
        fused: torch.Tensor = r * noise + (1 - r) * self.linear(values)
        return fused
