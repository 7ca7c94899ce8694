"""StyleGAN2's binomial blur by an ordinary convolution of each channel by itself.

StyleGAN2 has a CUDA operator for it (upfirdn); this runs anywhere and can be differentiated twice, which R1 and the
path length need. Images, as Haar bands, are resampled by ``wavelet``.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

from ltgc_local.tgn.convolution import convolve

BLUR = (1.0, 3.0, 3.0, 1.0)  # along one axis, before it is divided by its sum


def blur(maps: torch.Tensor, pad: tuple[int, int], gain: float = 1.0) -> torch.Tensor:
    """Put zeros around the maps and convolve each with the 4 x 4 blur, whose values add up to ``gain``.

    Args:
        maps: (B, C, H, W).
        pad: zeros before and after, of height and width alike.

    Returns:
        (B, C, H + sum(pad) - 3, W + sum(pad) - 3), of the maps' dtype, also under autocast.
    """
    before, after = pad
    if before != after:
        maps, before = F.pad(maps, (before, after, before, after)), 0
    make = _make_kernel if torch.compiler.is_compiling() else _kept_kernel
    channels = maps.shape[1]
    kernel = make(maps.device, maps.dtype, gain).expand(channels, 1, -1, -1)
    with torch.autocast(maps.device.type, enabled=False):
        return convolve(maps, kernel, padding=before, groups=channels)


def _make_kernel(device: torch.device, dtype: torch.dtype, gain: float) -> torch.Tensor:
    with torch.inference_mode(False):
        taps = torch.tensor(BLUR, device=device, dtype=dtype)
        return torch.outer(taps, taps) * (gain / taps.sum() ** 2)


#: A copy from the CPU waits for all that the GPU has to do yet: not one a layer. What is compiled has it as a constant.
_kept_kernel = cache(_make_kernel)
