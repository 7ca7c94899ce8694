"""Which images a training draws: every image equally often, or every class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

import numpy as np

Sampler = Literal["instance", "balanced"]


class BalancedSampler:
    """Draw a class uniformly, then the next image of that class in shuffled order, for ever.

    The only evidence of what LTGC balance-samples with: the released code's sampler does so.
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
    """Yield every row once per pass, in a new order each pass, for ever."""
    while True:
        yield from rng.permutation(num_rows).tolist()


def row_batches(labels: np.ndarray, size: int, sampler: Sampler, seed: int) -> Iterator[np.ndarray]:
    """Yield rows (``size``,) for ever, by the seed alone."""
    rng = np.random.default_rng(seed)
    balanced, every = BalancedSampler(labels, rng) if sampler == "balanced" else None, shuffled(len(labels), rng)
    while True:
        yield balanced.take(size) if balanced else np.fromiter(islice(every, size), np.int64, size)
