"""BalanceMix: pairs of a class-balanced original image and a generated image, mixed with their labels.

    x~ = lam * x_i + (1 - lam) * x_j,    y~ = lam * y_i + (1 - lam) * y_j        (LTGC, BalanceMix)

x_i is balance-sampled from the original data D_o, x_j sampled from the generated data D_g. The paper states neither the
distribution of lam nor an epoch's length: ours are Beta(alpha, alpha) a pair and len(D_o) pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch


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


def effective_prior(generated_counts: np.ndarray) -> np.ndarray:
    """Return the label marginal of BalanceMix, q(c) = 0.5 / C + 0.5 * N_c / sum(N): half balanced, half D_g's.

    Args:
        generated_counts: (C,) N_c, the number of generated images of each class.
    """
    num_classes = len(generated_counts)
    prior: np.ndarray = 0.5 / num_classes + 0.5 * generated_counts / generated_counts.sum()
    return prior
