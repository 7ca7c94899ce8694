"""The Haar transform of images, and images halved and doubled in Haar space: each a single convolution.

    LL = (a + b + c + d) / 2,   LH = (a + b - c - d) / 2,   HL = (a - b + c - d) / 2,   HH = (a - b - c + d) / 2

of each 2 x 2 pixels a b / c d. SWAGAN goes back to pixels, resamples them with StyleGAN2's blur, and comes again to
bands; all three steps are linear, so that here they are one kernel of 4 x 4 for halving. The blur is symmetric and the
transform orthonormal: doubling is four times the transpose of halving.

Nothing here is autocast: the colours that the sizes add up stay in float32, where bfloat16 would step by a grey level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch

from ltgc_local.tgn.convolution import convolve
from ltgc_local.tgn.resampling import BLUR


def to_wavelets(images: torch.Tensor) -> torch.Tensor:
    """Transform (B, C, H, W) into (B, 4C, H/2, W/2): all channels' LL, then LH, HL, HH."""
    return _linear(images, images.shape[1], _haar, transposed=False)


def from_wavelets(bands: torch.Tensor) -> torch.Tensor:
    """Invert ``to_wavelets``: (B, 4C, H, W) -> (B, C, 2H, 2W)."""
    return _linear(bands, bands.shape[1] // 4, _haar, transposed=True)


def halved(bands: torch.Tensor) -> torch.Tensor:
    """Return the bands of the image blurred and halved: (B, 4C, H, W) -> (B, 4C, H/2, W/2)."""
    return _linear(bands, bands.shape[1] // 4, _halving, transposed=False)


def doubled(bands: torch.Tensor) -> torch.Tensor:
    """Return the bands of the image doubled and blurred: (B, 4C, H, W) -> (B, 4C, 2H, 2W)."""
    return _linear(bands, bands.shape[1] // 4, _doubling, transposed=True)


def _linear(maps: torch.Tensor, colours: int, axis: Callable[[], torch.Tensor], transposed: bool) -> torch.Tensor:
    make = _make if torch.compiler.is_compiling() else _kept
    kernel = make(axis, colours, maps.device, maps.dtype)
    with torch.autocast(maps.device.type, enabled=False):
        return convolve(maps, kernel, stride=2, padding=(kernel.shape[-1] - 2) // 2, transposed=transposed)


def _haar() -> torch.Tensor:
    """Low and high of two pixels: (2 bands, 1, 2 pixels)."""
    return torch.tensor([[[1.0, 1.0]], [[1.0, -1.0]]], dtype=torch.float64) / math.sqrt(2)


def _halving() -> torch.Tensor:
    """Low and high of two pixels of a row that is blurred and halved, from its bands: (2 bands, 2 bands, 4 places).

    The pixels of four places are 0 to 7; of the halved row's two, one is the blur of 1 to 4 and one of 3 to 6.
    """
    haar = _haar()[:, 0]
    pixels = torch.zeros(2, 8, dtype=torch.float64)
    pixels[0, 1:5] = pixels[1, 3:7] = torch.tensor(BLUR, dtype=torch.float64) / sum(BLUR)
    return torch.einsum("op,pkt,it->oik", haar, pixels.view(2, 4, 2), haar)


def _doubling() -> torch.Tensor:
    return 2 * _halving()  # of each axis


def _make(axis: Callable[[], torch.Tensor], colours: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return the kernel of both axes, each colour by itself: (4C, C or 4C, k, k)."""
    with torch.inference_mode(False):
        taps = axis()
        both = torch.einsum("vay,hbx->hvbayx", taps, taps).flatten(0, 1).flatten(1, 2)  # a band is 2 h + v
        each = torch.einsum("oiyx,cd->ocidyx", both, torch.eye(colours, dtype=torch.float64))
        return each.flatten(0, 1).flatten(1, 2).to(device, dtype)


#: A copy from the CPU waits for all that the GPU has to do yet: not one a layer. What is compiled has it as a constant.
_kept = cache(_make)
