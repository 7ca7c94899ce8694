"""The link from KMDN to CDTG: a latent of noise and of a real tail image's features.

    z = r * noise + (1 - r) * W f                                                    (TGN, NoiseFeatureFusion)

f are the tail network's layer-3 maps. Differs from the released code: W is trained with the generator, averaged and
saved with it; there it is in no optimiser and no checkpoint, so that generation draws a fresh random one. W learns at
the mapping network's rate, equalised as all of StyleGAN2's layers: with thousands of inputs that are never negative, a
plain linear map would move z by many times its size in each step of Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn as nn

from ltgc_local.methods.tgn.cdtg.layers import EqualLinear

FusionForm = Literal["flatten", "pool"]


class FeatureFusion(nn.Module):
    """W: ``flatten`` reads every value of the maps (as released), ``pool`` each channel's mean over the places."""

    def __init__(self, form: FusionForm, feature_shape: tuple[int, int, int], style_dim: int, lr_factor: float) -> None:
        super().__init__()
        channels, height, width = feature_shape
        inputs = channels * height * width if form == "flatten" else channels
        self.form, self.feature_shape = form, feature_shape
        self.linear = EqualLinear(inputs, style_dim, lr_factor=lr_factor)

    def forward(
        self, noises: Sequence[torch.Tensor], features: torch.Tensor, r: torch.Tensor | float
    ) -> tuple[torch.Tensor, ...]:
        """Fuse each noise (B, D) with maps (B, C, h, w); ``r`` in [0, 1] is the noise's share, one or (B, 1)."""
        values = features.flatten(1) if self.form == "flatten" else features.mean((2, 3))
        mapped = (1 - r) * self.linear(values)
        return tuple(r * noise + mapped for noise in noises)
