"""CDTG's generator: StyleGAN2 in Haar-wavelet space (SWAGAN, Gal et al. 2021), conditional on a class label.

The maps grow from 4 x 4 to half the image's size. At each size they are turned into 12 channels, four bands of three
colours, and the bands are summed over sizes. All noise is an input, so an image depends on its own seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn

from ltgc_local.methods.tgn.cdtg.layers import EqualLinear, ModulatedConv, StyledConv, pixel_norm
from ltgc_local.methods.tgn.cdtg.wavelet import Haar

BANDS = 12  # 3 colours x 4 bands
FIRST = 4  # height and width of the smallest maps


@dataclass(frozen=True)
class Widths:
    """Sizes of the two networks, named as in the recipe's block ``cdtg``."""

    size_px: int
    num_classes: int
    style_dim: int = 512
    mlp_layers: int = 8
    mlp_lr: float = 0.01
    channel_multiplier: float = 2.0
    max_channels: int = 512

    def channels(self, resolution: int) -> int:
        """Return the channels of R x R maps: StyleGAN2's 16384 m / R, at most ``max_channels``."""
        return max(1, min(self.max_channels, int(16_384 * self.channel_multiplier / resolution)))

    @property
    def resolutions(self) -> list[int]:
        """Sizes of the maps: 4, 8, … half the image's size."""
        return [2**n for n in range(2, int(math.log2(self.size_px)))]

    @property
    def num_latents(self) -> int:
        """Styles per image: one per styled convolution, and one for the bands of the last size."""
        return 2 * len(self.resolutions)


class ToBands(nn.Module):
    """Maps -> 12 channels of bands, added to those of the smaller size."""

    def __init__(self, inputs: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, BANDS, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, BANDS, 1, 1))
        self.haar = Haar()

    def forward(self, maps: torch.Tensor, style: torch.Tensor, smaller: torch.Tensor | None) -> torch.Tensor:
        bands: torch.Tensor = self.conv(maps, style).float() + self.bias
        if smaller is None:
            return bands
        return bands + self.haar.doubled(smaller)


class Generator(nn.Module):
    """Latents z (B, D) and labels (B,) -> images (B, 3, H, W), unbounded; real images are in [-1, 1]."""

    def __init__(self, widths: Widths, text_features: torch.Tensor | None = None) -> None:
        """Build a fresh network.

        Args:
            text_features: CLIP's for the classes, (C, E); a trained map adds them to the labels' embeddings.
        """
        super().__init__()
        self.widths = widths
        dim = widths.style_dim
        self.label_embedding = nn.Embedding(widths.num_classes, dim)
        self.text_features: torch.Tensor | None
        self.register_buffer("text_features", text_features)
        if text_features is not None:
            self.text_map = EqualLinear(text_features.shape[1], dim)
        self.mapping = nn.Sequential(
            *(EqualLinear(dim, dim, lr_factor=widths.mlp_lr, activation=True) for _ in range(widths.mlp_layers))
        )
        first = widths.channels(FIRST)
        self.constant = nn.Parameter(torch.randn(1, first, FIRST, FIRST))
        self.convs = nn.ModuleList([StyledConv(first, first, dim)])
        self.to_bands = nn.ModuleList([ToBands(first, dim)])
        self.haar = Haar()
        for resolution in widths.resolutions[1:]:
            inputs, outputs = widths.channels(resolution // 2), widths.channels(resolution)
            self.convs += [StyledConv(inputs, outputs, dim, up=True), StyledConv(outputs, outputs, dim)]
            self.to_bands.append(ToBands(outputs, dim))

    def map(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Turn z (B, D) and labels (B,) into styles w (B, D)."""
        condition = self.label_embedding(labels)
        if self.text_features is not None:
            condition = condition + self.text_map(self.text_features[labels])
        styles: torch.Tensor = self.mapping(pixel_norm(latents + condition))
        return styles

    def synthesise(self, styles: torch.Tensor, noise: Sequence[torch.Tensor]) -> torch.Tensor:
        """Make images from styles (B, num_latents, D) and noise, (B, 1, R, R) per styled convolution."""
        maps = self.constant.expand(len(styles), -1, -1, -1)
        maps = self.convs[0](maps, styles[:, 0], noise[0])
        bands = self.to_bands[0](maps, styles[:, 1], None)
        for number, to_bands in enumerate(list(self.to_bands)[1:]):
            at = 2 * number + 1
            maps = self.convs[at](maps, styles[:, at], noise[at])
            maps = self.convs[at + 1](maps, styles[:, at + 1], noise[at + 1])
            bands = to_bands(maps, styles[:, at + 2], bands)
        return self.haar.inverse(bands)

    def mixed_styles(
        self, latents: tuple[torch.Tensor, torch.Tensor], labels: torch.Tensor, crossover: torch.Tensor
    ) -> torch.Tensor:
        """Return styles (B, num_latents, D): below layer ``crossover`` (B,) the first latent's, then the second's."""
        one, other = self.map(latents[0], labels), self.map(latents[1], labels)
        layers = torch.arange(self.widths.num_latents, device=crossover.device)
        is_first = (layers[None] < crossover[:, None])[:, :, None]  # (B, num_latents, 1)
        return torch.where(is_first, one[:, None], other[:, None])

    def noise_sizes(self) -> list[int]:
        """Return height (and width) of each styled convolution's output."""
        return [FIRST, *(r for r in self.widths.resolutions[1:] for _ in range(2))]
