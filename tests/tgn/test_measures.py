"""Kernel distance, diversity and consistency against sums over pairs written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ltgc_local.methods.tgn.measures import consistency, diversity, kernel_distance


def unit_rows(num: int, dimension: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    rows = torch.randn(num, dimension, generator=torch.Generator().manual_seed(seed))
    rows[:, 0] += shift
    return F.normalize(rows, dim=-1)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_distance_is_the_unbiased_mmd_of_the_cubic_kernel() -> None:
    one, other = unit_rows(5, 4, 0), unit_rows(5, 4, 1)

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return (float(x @ y) + 1) ** 3

    within = [np.mean([kernel(s[i], s[j]) for i, j in itertools.permutations(range(5), 2)]) for s in (one, other)]
    across = np.mean([kernel(x, y) for x in one for y in other])
    assert kernel_distance(one, other, 100, 1000, rng()) == pytest.approx(within[0] + within[1] - 2 * across, abs=1e-6)


def test_similar_sets_are_at_about_zero_and_different_ones_farther_away() -> None:
    real = unit_rows(400, 8, 0)
    alike, near, far = (kernel_distance(real, unit_rows(400, 8, 1, s), 20, 200, rng()) for s in (0.0, 0.7, 3.0))
    assert alike is not None and near is not None and far is not None
    assert abs(alike) < 0.02 < near < far


def test_unequal_sets_are_cut_to_subsets_and_one_image_has_no_distance() -> None:
    assert kernel_distance(unit_rows(3, 4, 0), unit_rows(50, 4, 1), 10, 1000, rng()) is not None
    assert kernel_distance(unit_rows(1, 4, 0), unit_rows(50, 4, 1), 10, 1000, rng()) is None


def test_diversity_is_the_mean_cosine_distance_of_pairs() -> None:
    rows = unit_rows(6, 3, 2)
    pairs = [1 - float(rows[i] @ rows[j]) for i, j in itertools.combinations(range(6), 2)]
    assert diversity(rows) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert diversity(rows[:1].expand(4, 3)) == pytest.approx(0, abs=1e-6)
    assert diversity(rows[:1]) is None


def test_consistency_counts_images_that_are_closest_to_their_own_text() -> None:
    texts = torch.eye(3)
    rows = F.normalize(torch.tensor([[1.0, 0.1, 0], [0.9, 0.2, 0.3], [0.1, 0.9, 0], [0, 0, 1.0]]), dim=-1)
    assert consistency(rows, texts, 0) == 50.0
    assert consistency(rows[:0], texts, 0) is None
