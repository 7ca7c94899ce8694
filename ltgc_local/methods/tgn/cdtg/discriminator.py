"""CDTG's discriminator: StyleGAN2's in Haar-wavelet space; the class label enters where the maps are 4 x 4."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
import torch.nn as nn

from ltgc_local.methods.tgn.cdtg.generator import BANDS, FIRST, Widths
from ltgc_local.methods.tgn.cdtg.layers import EqualConv, EqualLinear
from ltgc_local.methods.tgn.cdtg.wavelet import Haar

GROUP = 4  # images that share one deviation feature
LabelFusion = Literal["concat", "projection"]


class Discriminator(nn.Module):
    """Images (B, 3, H, W) and labels (B,) -> logits (B, 1); above 0 means real.

    ``label_fusion``: ``concat`` concatenates the label's embedding with the 4 x 4 maps and convolves both (TGN);
    ``projection`` multiplies it with the last features (Miyato and Koyama 2018, as in StyleGAN2-ADA).
    """

    def __init__(self, widths: Widths, label_fusion: LabelFusion = "concat") -> None:
        super().__init__()
        # From the largest maps to 4 x 4. As in SWAGAN the largest have the channels that belong to the image's own
        # size, half those of the generator's maps of the same size.
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

    def forward(self, images: torch.Tensor, labels: torch.Tensor, sets: int = 1) -> torch.Tensor:
        """Return logits of a batch, or of several sets concatenated; images of different sets do not interact."""
        bands = self.haar(images)
        maps = self.from_bands[0](bands)
        for block, from_bands in zip(self.blocks, list(self.from_bands)[1:], strict=True):
            bands = self.haar.halved(bands)
            maps = block(maps) + from_bands(bands)
        embedded = self.label_embedding(labels)  # (B, C)
        if self.label_fusion == "concat":
            spread = embedded[:, :, None, None].expand(-1, -1, FIRST, FIRST)
            maps = self.fusion_conv(torch.cat([maps, spread.to(maps.dtype)], 1))
        maps = self.final_conv(with_deviation(maps, sets))
        values: torch.Tensor = self.out(self.hidden(maps.flatten(1))).float()
        if self.label_fusion == "projection":
            values = (values * embedded).sum(1, keepdim=True) / math.sqrt(values.shape[1])
        return values


def with_deviation(maps: torch.Tensor, sets: int = 1) -> torch.Tensor:
    """Add a channel: the standard deviation within groups of GROUP images, averaged over channels and places.

    If GROUP does not divide the batch, groups have the largest smaller size that does. Each of the ``sets``
    concatenated batches has its own groups.
    """
    images, channels, height, width = maps.shape
    batch = images // sets
    group = next(size for size in range(min(GROUP, batch), 0, -1) if batch % size == 0)
    grouped = maps.view(sets, group, -1, channels, height, width).float()
    # torch's own variance is three times slower along such an axis.
    variance = (grouped - grouped.mean(1, keepdim=True)).square().mean(1)
    deviation = (variance + 1e-8).sqrt().mean((2, 3, 4))  # (sets, B / group)
    spread = deviation[:, None].expand(-1, group, -1).reshape(-1, 1, 1, 1).expand(-1, -1, height, width)
    return torch.cat([maps, spread.to(maps.dtype)], 1)
