"""The Haar transform of images, and images halved and doubled in Haar space: each a single convolution.

    LL = (a + b + c + d) / 2,   LH = (a + b - c - d) / 2,   HL = (a - b + c - d) / 2,   HH = (a - b - c + d) / 2

for each 2 x 2 pixels a b / c d. SWAGAN converts bands to pixels, resamples them with StyleGAN2's blur, and converts
back; all three steps are linear, so here halving is a single 4 x 4 kernel. The blur is symmetric and the transform
orthonormal, so doubling is four times the transpose of halving.
"""

from __future__ import annotations

import math

import torch
import torch.nn as nn

from ltgc_local.methods.tgn.cdtg.convolution import BLUR, convolve


class Haar(nn.Module):
    """Images (B, C, H, W) -> bands (B, 4C, H/2, W/2): all channels' LL, then LH, HL, HH.

    Nothing here is autocast: colours are summed over sizes in float32, because bfloat16 rounds to a grey level.
    """

    transform: torch.Tensor
    halving: torch.Tensor
    doubling: torch.Tensor

    def __init__(self, colours: int = 3) -> None:
        super().__init__()
        halving = _kernel(_halving(), colours)
        self.register_buffer("transform", _kernel(_haar()[:, None], colours), persistent=False)
        self.register_buffer("halving", halving, persistent=False)
        self.register_buffer("doubling", 4 * halving, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return _in_float32(images, self.transform)

    def inverse(self, bands: torch.Tensor) -> torch.Tensor:
        """Return the image of bands: (B, 4C, H, W) -> (B, C, 2H, 2W)."""
        return _in_float32(bands, self.transform, transposed=True)

    def halved(self, bands: torch.Tensor) -> torch.Tensor:
        """Return the bands of the image blurred and halved: (B, 4C, H, W) -> (B, 4C, H/2, W/2)."""
        return _in_float32(bands, self.halving, padding=1)

    def doubled(self, bands: torch.Tensor) -> torch.Tensor:
        """Return the bands of the image doubled and blurred: (B, 4C, H, W) -> (B, 4C, 2H, 2W)."""
        return _in_float32(bands, self.doubling, padding=1, transposed=True)


def _in_float32(maps: torch.Tensor, kernel: torch.Tensor, padding: int = 0, transposed: bool = False) -> torch.Tensor:
    with torch.autocast(maps.device.type, enabled=False):
        return convolve(maps, kernel, stride=2, padding=padding, transposed=transposed)


def _haar() -> torch.Tensor:
    """Return the low and high band of two pixels, (2 bands, 2 pixels)."""
    return torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)


def _halving() -> torch.Tensor:
    """Return the bands of a row that is blurred and halved, from the row's bands: (2 bands, 2 bands, 4 places).

    Four places hold pixels 0 to 7; the halved row has two pixels, the blur of 1 to 4 and of 3 to 6.
    """
    pixels = torch.zeros(2, 8)
    pixels[0, 1:5] = pixels[1, 3:7] = torch.tensor(BLUR) / sum(BLUR)
    return torch.einsum("op,pkt,it->oik", _haar(), pixels.view(2, 4, 2), _haar())


def _kernel(axis: torch.Tensor, colours: int) -> torch.Tensor:
    """Return the kernel for both axes, separate for each colour, from that of one: (O, I, k) -> (OOC, IIC, k, k)."""
    both = torch.einsum("vay,hbx->hvbayx", axis, axis).flatten(0, 1).flatten(1, 2)  # a band is 2 h + v
    each = torch.einsum("oiyx,cd->ocidyx", both, torch.eye(colours))
    return each.flatten(0, 1).flatten(1, 2).contiguous()
