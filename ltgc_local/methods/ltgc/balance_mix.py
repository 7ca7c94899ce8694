"""BalanceMix: pairs of a class-balanced original image and a generated image, mixed with their labels.

    x~ = lam * x_i + (1 - lam) * x_j,    y~ = lam * y_i + (1 - lam) * y_j        (LTGC, BalanceMix)

x_i is sampled from the original data D_o with balanced classes, x_j from the generated data D_g. The paper states
neither the distribution of lam nor the length of an epoch: ours are Beta(a, b) per pair and len(D_o) pairs. It prints 1
in bold, as for a mask; ``mix_masked`` implements that reading.
"""

from __future__ import annotations

import torch

from ltgc_local.backends.torch_device import to_device
from ltgc_local.training.augment import Share


def mix(one: torch.Tensor, other: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """Mix two batches: images (B, C, H, W) or soft targets (B, C), with ``lam`` (B,) the share of ``one``."""
    share = lam.view(-1, *([1] * (one.dim() - 1)))
    return share * one + (1 - share) * other


def mix_masked(
    one: torch.Tensor, other: torch.Tensor, lam: torch.Tensor, generator: torch.Generator, share: Share | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste a rectangle of ``other``, with the image's aspect ratio and share 1 - lam, at a random place in ``one``.

    Like CutMix (Yun et al. 2019), except that the rectangle lies wholly within the image. CutMix cuts it off at the
    edge, which makes the share of ``one`` larger than lam on average.

    Args:
        one, other: images (B, C, H, W).
        lam: (B,).
        generator: on the CPU.
        share: which pairs of a larger batch these are; None for all of theirs.

    Returns:
        The images, and the share (B,) of their pixels from ``one``: lam, rounded to whole pixels.
    """
    height, width = one.shape[-2:]
    side = (1 - lam).clamp(0, 1).sqrt()  # (B,)
    share = share or Share(len(one))
    place = to_device(torch.rand(share.total, 2, generator=generator)[share.part], one.device)  # (B, 2)

    def inside(size: int, at: torch.Tensor) -> torch.Tensor:
        length = (side * size).round()
        first = (at * (size - length + 1)).floor().clamp(max=size - length)
        index = torch.arange(size, device=one.device)
        return (index >= first[:, None]) & (index < (first + length)[:, None])  # (B, size)

    box = inside(height, place[:, 0])[:, :, None] & inside(width, place[:, 1])[:, None, :]  # (B, H, W)
    return torch.where(box[:, None], other, one), 1 - box.float().mean((1, 2))
