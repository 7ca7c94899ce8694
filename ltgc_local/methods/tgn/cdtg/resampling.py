"""StyleGAN2's binomial blur by an ordinary convolution of each channel by itself.

StyleGAN2 has a CUDA operator for it (upfirdn); this runs anywhere and can be differentiated twice, which R1 and the
path length need. Images, as Haar bands, are resampled by ``wavelet``.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from ltgc_local.methods.tgn.cdtg.convolution import convolve

BLUR = (1.0, 3.0, 3.0, 1.0)  # along one axis, before it is divided by its sum


class Blur(nn.Module):
    """Put zeros around maps (B, C, H, W) and convolve each with the 4 x 4 blur, whose values add up to ``gain``.

    ``pad`` is how many zeros there are before and after, of height and width alike: the result is
    (B, C, H + sum(pad) - 3, W + sum(pad) - 3), of the maps' dtype, also under autocast.
    """

    kernel: torch.Tensor

    def __init__(self, pad: tuple[int, int], gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor(BLUR) / sum(BLUR)
        self.register_buffer("kernel", gain * torch.outer(taps, taps), persistent=False)
        self.pad = pad

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        before, after = self.pad
        if before != after:
            maps, before = F.pad(maps, (before, after, before, after)), 0
        channels = maps.shape[1]
        kernel = self.kernel.to(maps.dtype).expand(channels, 1, -1, -1)
        with torch.autocast(maps.device.type, enabled=False):
            return convolve(maps, kernel, padding=before, groups=channels)
