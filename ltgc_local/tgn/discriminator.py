"""CDTG's discriminator: StyleGAN2's in Haar-wavelet space, which sees the class label where the maps are 4 x 4."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
import torch.nn as nn

from ltgc_local.tgn.generator import BANDS, FIRST, Widths
from ltgc_local.tgn.layers import EqualConv, EqualLinear
from ltgc_local.tgn.wavelet import Haar

GROUP = 4  # images whose deviation is one feature
LabelFusion = Literal["concat", "projection"]


class Discriminator(nn.Module):
    """Images (B, 3, H, W) and labels (B,) -> logits (B, 1); above 0 means real.

    ``label_fusion``: ``concat`` puts the label's embedding beside the 4 x 4 maps and convolves both (TGN);
    ``projection`` multiplies it with the last features (Miyato and Koyama 2018, as StyleGAN2-ADA does).
    """

    def __init__(self, widths: Widths, label_fusion: LabelFusion = "concat") -> None:
        super().__init__()
        # From the largest maps to 4 x 4. The largest have the channels of the image's own size, half those of the
        # generator's maps of that size: so do SWAGAN's.
        channels = [widths.channels(widths.size_px), *(widths.channels(r) for r in widths.resolutions[-2::-1])]
        self.haar = Haar()
        self.from_bands = nn.ModuleList(EqualConv(BANDS, outputs, 1) for outputs in channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(EqualConv(inputs, inputs, 3), EqualConv(inputs, outputs, 3, down=True))
            for inputs, outputs in itertools.pairwise(channels)
        )
        last = channels[-1]
        self.label_fusion = label_fusion
        self.label_embedding = nn.Embedding(widths.num_classes, last)
        if label_fusion == "concat":
            self.fusion_conv = EqualConv(2 * last, last, 3)
        self.final_conv = EqualConv(last + 1, last, 3)
        self.hidden = EqualLinear(last * FIRST**2, last, activation=True)
        self.out = EqualLinear(last, last if label_fusion == "projection" else 1)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        bands = self.haar(images)
        maps = self.from_bands[0](bands)
        for block, from_bands in zip(self.blocks, list(self.from_bands)[1:], strict=True):
            bands = self.haar.halved(bands)
            maps = block(maps) + from_bands(bands)
        embedded = self.label_embedding(labels)  # (B, C)
        if self.label_fusion == "concat":
            spread = embedded[:, :, None, None].expand(-1, -1, FIRST, FIRST)
            maps = self.fusion_conv(torch.cat([maps, spread.to(maps.dtype)], 1))
        maps = self.final_conv(with_deviation(maps))
        values: torch.Tensor = self.out(self.hidden(maps.flatten(1))).float()
        if self.label_fusion == "projection":
            values = (values * embedded).sum(1, keepdim=True) / math.sqrt(values.shape[1])
        return values


def with_deviation(maps: torch.Tensor) -> torch.Tensor:
    """Add a channel: the standard deviation within groups of GROUP images, averaged over channels and places.

    A batch that GROUP does not divide has groups as large as divide it.
    """
    batch, channels, height, width = maps.shape
    group = next(size for size in range(min(GROUP, batch), 0, -1) if batch % size == 0)
    grouped = maps.view(group, -1, channels, height, width).float()
    variance = (grouped - grouped.mean(0)).square().mean(0)  # torch's own is three times slower along the first axis
    deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))  # (B / group,)
    spread = deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([maps, spread.to(maps.dtype)], 1)
