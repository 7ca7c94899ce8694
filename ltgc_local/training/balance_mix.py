"""BalanceMix: pairs of a class-balanced original image and a generated image, mixed with their labels.

    x~ = lam * x_i + (1 - lam) * x_j,    y~ = lam * y_i + (1 - lam) * y_j        (LTGC, BalanceMix)

x_i is balance-sampled from the original data D_o, x_j sampled from the generated data D_g. The paper states neither the
distribution of lam nor an epoch's length: ours are Beta(a, b) a pair and len(D_o) pairs. It writes 1 in bold, as for a
mask: ``mix_masked`` is that reading.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ltgc_local.backends.transfer import onto


class BalancedSampler:
    """Draw a class uniformly, then the next image of that class in shuffled order, for ever.

    The only evidence of what the paper balance-samples with: the released code's sampler does so.
    """

    def __init__(self, labels: np.ndarray, rng: np.random.Generator) -> None:
        self._rows = [np.flatnonzero(labels == class_id) for class_id in np.unique(labels)]
        self._rng = rng
        self._orders = [rng.permutation(rows) for rows in self._rows]
        self._next = [0] * len(self._rows)

    def take(self, num: int) -> np.ndarray:
        """Return the rows of the next ``num`` images."""
        return np.array([self._take_one(c) for c in self._rng.integers(len(self._rows), size=num)])

    def _take_one(self, class_index: int) -> int:
        if self._next[class_index] == len(self._rows[class_index]):
            self._orders[class_index] = self._rng.permutation(self._rows[class_index])
            self._next[class_index] = 0
        row = int(self._orders[class_index][self._next[class_index]])
        self._next[class_index] += 1
        return row


def shuffled(num_rows: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield every row once a pass, in a new order each pass, for ever."""
    while True:
        yield from rng.permutation(num_rows).tolist()


def mix(one: torch.Tensor, other: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """Mix two batches: images (B, C, H, W) or soft targets (B, C), with ``lam`` (B,) the share of ``one``."""
    share = lam.view(-1, *([1] * (one.dim() - 1)))
    return share * one + (1 - share) * other


def mix_masked(
    one: torch.Tensor, other: torch.Tensor, lam: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Put a rectangle of ``other``, of the image's proportions and share 1 - lam, at a random place of ``one``.

    As CutMix (Yun et al. 2019), but the rectangle lies wholly within the image: there, what hangs over the edge is cut
    off, which makes the share of ``one`` larger than lam on average.

    Args:
        one, other: images (B, C, H, W).
        lam: (B,).
        generator: on the CPU.

    Returns:
        The images, and (B,) the share of their pixels that is ``one``'s: lam but for rounding to whole pixels.
    """
    height, width = one.shape[-2:]
    side = (1 - lam).clamp(0, 1).sqrt()  # (B,)
    place = onto(torch.rand(len(one), 2, generator=generator), one.device)  # (B, 2)

    def inside(size: int, at: torch.Tensor) -> torch.Tensor:
        length = (side * size).round()
        first = (at * (size - length + 1)).floor().clamp(max=size - length)
        index = torch.arange(size, device=one.device)
        return (index >= first[:, None]) & (index < (first + length)[:, None])  # (B, size)

    box = inside(height, place[:, 0])[:, :, None] & inside(width, place[:, 1])[:, None, :]  # (B, H, W)
    return torch.where(box[:, None], other, one), 1 - box.float().mean((1, 2))


def class_shares(labels: np.ndarray, num_classes: int, balanced: bool) -> np.ndarray:
    """Return the share (C,) of each class in what a sampler draws.

    Args:
        balanced: every class that has images alike; else as many as it has.
    """
    counts = np.bincount(labels, minlength=num_classes)
    shares: np.ndarray = (counts > 0) / (counts > 0).sum() if balanced else counts / counts.sum()
    return shares


def effective_prior(original: np.ndarray, generated: np.ndarray, original_share: float = 0.5) -> np.ndarray:
    """Return the label marginal of mixed pairs, q(c) = E[lam] p_o(c) + (1 - E[lam]) p_g(c).

    For BalanceMix p_o is 1 / C and p_g is N_c / sum(N): with E[lam] = 1/2 half balanced and half as the tail is drawn.

    Args:
        original, generated: (C,) the shares of the classes among the first and among the second images of the pairs.
        original_share: E[lam], a / (a + b) for Beta(a, b).
    """
    return original_share * original + (1 - original_share) * generated
