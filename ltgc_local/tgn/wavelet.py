"""The Haar transform: an image as four bands of half its height and width, and back.

    LL = (a + b + c + d) / 2,   LH = (a + b - c - d) / 2,   HL = (a - b + c - d) / 2,   HH = (a - b - c + d) / 2

of each 2 x 2 pixels a b / c d. It is orthonormal, so its inverse is its transpose, and both are sums of slices.
"""

from __future__ import annotations

import torch


def to_wavelets(images: torch.Tensor) -> torch.Tensor:
    """Transform (B, C, H, W) into (B, 4C, H/2, W/2): all channels' LL, then LH, HL, HH."""
    a, b = images[..., 0::2, 0::2], images[..., 0::2, 1::2]
    c, d = images[..., 1::2, 0::2], images[..., 1::2, 1::2]
    left, right, top, bottom = a + c, b + d, a - c, b - d
    return torch.cat([left + right, top + bottom, left - right, top - bottom], 1) / 2


def from_wavelets(bands: torch.Tensor) -> torch.Tensor:
    """Invert ``to_wavelets``: (B, 4C, H, W) -> (B, C, 2H, 2W)."""
    low, lh, hl, hh = bands.chunk(4, 1)  # each (B, C, H, W)
    left_low, left_high, right_low, right_high = low + hl, lh + hh, low - hl, lh - hh
    upper = torch.stack([left_low + left_high, right_low + right_high], -1).flatten(-2)  # (B, C, H, 2W)
    lower = torch.stack([left_low - left_high, right_low - right_high], -1).flatten(-2)
    return torch.stack([upper, lower], -2).flatten(-3, -2) / 2
