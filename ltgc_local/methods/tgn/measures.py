"""Measures of generated images against real ones, from embeddings: kernel distance, diversity, consistency.

    distance   = MMD^2 unbiased, k(x, y) = (x . y / D + 1)^3            Binkowski et al. 2018 (KID)
    diversity  = mean over pairs of one class of 1 - cos
    consistency = share of images whose class is the closest text of all classes'

Differs from the usual KID: the features come from the recipe's CLIP, because the Inception network cannot be shipped.
Unit rows are scaled to length sqrt(D), so k = (cos + 1)^3. Such distances are comparable within one table, but not with
KIDs or FIDs in the literature.
"""

from __future__ import annotations

import numpy as np
import torch


def kernel_distance(
    real: torch.Tensor, generated: torch.Tensor, subsets: int, subset_size: int, rng: np.random.Generator
) -> float | None:
    """Return the mean over subsets of the unbiased MMD^2; None if a side has fewer than two images.

    Args:
        real, generated: (N, D), (M, D) unit rows.
        subset_size: images per subset, limited to the size of the smaller side.
    """
    size = min(subset_size, len(real), len(generated))
    if size < 2:
        return None
    values = []
    whole = size == len(real) == len(generated)
    for _ in range(1 if whole else subsets):
        one = real[torch.from_numpy(rng.choice(len(real), size, replace=False))]
        other = generated[torch.from_numpy(rng.choice(len(generated), size, replace=False))]
        values.append(_mmd(one.double(), other.double()))
    return float(np.mean(values))


def _mmd(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the unbiased MMD^2 of two sets of equal size (n, D)."""
    size = len(one)

    def within(rows: torch.Tensor) -> torch.Tensor:
        kernel = (rows @ rows.T + 1) ** 3
        return (kernel.sum() - kernel.diagonal().sum()) / (size * (size - 1))

    return float(within(one) + within(other) - 2 * ((one @ other.T + 1) ** 3).mean())


def diversity(rows: torch.Tensor) -> float | None:
    """Return the mean of 1 - cos over all pairs of unit rows (N, D); None for fewer than two."""
    size = len(rows)
    if size < 2:
        return None
    total = rows.double().sum(0)
    return float(1 - (total @ total - size) / (size * (size - 1)))  # |sum x|^2 = n + sum over pairs of cos


def consistency(rows: torch.Tensor, texts: torch.Tensor, class_id: int) -> float | None:
    """Return the percentage of unit rows (N, D) that are closest to row ``class_id`` of ``texts`` (C, D)."""
    if not len(rows):
        return None
    return float(100 * ((rows @ texts.T).argmax(1) == class_id).double().mean())
