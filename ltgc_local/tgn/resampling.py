"""Upsample, filter, downsample (upfirdn) by ordinary torch operations, with StyleGAN2's binomial blur.

StyleGAN2 has CUDA operators for these; here they are a strided or transposed convolution of each channel by itself, so
that they run on any device and can be differentiated twice, which R1 and the path length need.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

from ltgc_local.tgn.convolution import convolve

BLUR = (1.0, 3.0, 3.0, 1.0)  # StyleGAN2's kernel along one axis, before it is divided by its sum


def blur_kernel(like: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    """Return the 4 x 4 blur whose values add up to ``gain``, on the device and of the dtype of ``like``."""
    make = _make_blur if torch.compiler.is_compiling() else _kept_blur
    return make(like.device, like.dtype, gain)


def _make_blur(device: torch.device, dtype: torch.dtype, gain: float) -> torch.Tensor:
    with torch.inference_mode(False):
        taps = torch.tensor(BLUR, device=device, dtype=dtype)
        return torch.outer(taps, taps) * (gain / taps.sum() ** 2)


#: A copy from the CPU waits for all that the GPU has to do yet: not one a layer. What is compiled has it as a constant.
_kept_blur = cache(_make_blur)


def upfirdn(
    images: torch.Tensor, kernel: torch.Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)
) -> torch.Tensor:
    """Put ``up - 1`` zeros after each pixel, pad, convolve with ``kernel``, keep each ``down``-th pixel.

    Args:
        images: (B, C, H, W).
        kernel: (k, k); this is a convolution, so the kernel is turned by half a turn.
        pad: zeros before and after, of height and width alike.

    Returns:
        (B, C, H', W') with H' = (H * up + sum(pad) - k) // down + 1, of the images' dtype, also under autocast: the
        colours that the sizes add up stay in float32, where bfloat16 would step by a grey level.
    """
    batch, channels, height, width = images.shape
    if up > 1:
        spread = images.new_zeros(batch, channels, height, up, width, up)
        spread[:, :, :, 0, :, 0] = images
        images = spread.view(batch, channels, height * up, width * up)
    weights = kernel.flip(0, 1).expand(channels, 1, *kernel.shape)
    before, after = pad
    if before != after:
        images, before = F.pad(images, (before, after, before, after)), 0
    with torch.autocast(images.device.type, enabled=False):
        return convolve(images, weights, stride=down, padding=before, groups=channels)


def upsample(images: torch.Tensor) -> torch.Tensor:
    """Double height and width: (B, C, H, W) -> (B, C, 2H, 2W)."""
    return upfirdn(images, blur_kernel(images, 4), up=2, pad=(2, 1))


def downsample(images: torch.Tensor) -> torch.Tensor:
    """Halve height and width: (B, C, H, W) -> (B, C, H/2, W/2)."""
    return upfirdn(images, blur_kernel(images), down=2, pad=(1, 1))
