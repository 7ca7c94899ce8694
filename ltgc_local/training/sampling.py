"""Which images a training uses: every image equally often, or every class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

import numpy as np

Sampler = Literal["instance", "balanced"]


class BalancedSampler:
    """Picks a class uniformly, then the next image of that class in shuffled order, forever.

    LTGC does not say how it balances; its released code's sampler does this.
    """

    def __init__(self, labels: np.ndarray, rng: np.random.Generator) -> None:
        self._rng = rng
        rows = [np.flatnonzero(labels == class_id) for class_id in np.unique(labels)]
        self._orders = [rng.permutation(of_class) for of_class in rows]
        self._rows, self._next = rows, [0] * len(rows)

    def take(self, num: int) -> np.ndarray:
        """Return the rows of the next ``num`` images."""
        return np.array([self._take_one(c) for c in self._rng.integers(len(self._rows), size=num)])

    def _take_one(self, class_index: int) -> int:
        if self._next[class_index] == len(self._rows[class_index]):
            self._orders[class_index] = self._rng.permutation(self._rows[class_index])
            self._next[class_index] = 0
        self._next[class_index] += 1
        return int(self._orders[class_index][self._next[class_index] - 1])


def shuffled(num_rows: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield every row once per pass, in a new order in each pass, forever."""
    while True:
        yield from rng.permutation(num_rows).tolist()


def row_batches(labels: np.ndarray, size: int, sampler: Sampler, seed: int) -> Iterator[np.ndarray]:
    """Yield rows (``size``,) forever; they depend on the seed alone."""
    rng = np.random.default_rng(seed)
    balanced, every = BalancedSampler(labels, rng) if sampler == "balanced" else None, shuffled(len(labels), rng)
    while True:
        yield balanced.take(size) if balanced else np.fromiter(islice(every, size), np.int64, size)
