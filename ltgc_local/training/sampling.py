"""Which images a training uses: every image equally often, or every class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

import numpy as np

Sampler = Literal["instance", "balanced"]


class ClassOrders:
    """The rows of each class in shuffled order, over and over, in a new order each time."""

    def __init__(self, labels: np.ndarray, rng: np.random.Generator) -> None:
        self._rng = rng
        by_class = np.argsort(labels, kind="stable")
        class_ids, first = np.unique(labels[by_class], return_index=True)
        self.class_ids: list[int] = class_ids.tolist()  # those that have images, ascending
        self._rows = dict(zip(self.class_ids, np.split(by_class, first[1:]), strict=False))  # no labels: one empty part
        self._orders = {class_id: rng.permutation(rows) for class_id, rows in self._rows.items()}
        self._next = dict.fromkeys(self.class_ids, 0)

    def next_of(self, class_id: int) -> int:
        """Return the next row of a class."""
        if self._next[class_id] == len(self._rows[class_id]):
            self._orders[class_id] = self._rng.permutation(self._rows[class_id])
            self._next[class_id] = 0
        self._next[class_id] += 1
        return int(self._orders[class_id][self._next[class_id] - 1])


class BalancedSampler:
    """Picks a class uniformly, then the next image of that class in shuffled order, forever.

    LTGC does not say how it balances; its released code's sampler does this.
    """

    def __init__(self, labels: np.ndarray, rng: np.random.Generator) -> None:
        self._rng, self._orders = rng, ClassOrders(labels, rng)

    def take(self, num: int) -> np.ndarray:
        """Return the rows of the next ``num`` images."""
        class_ids = self._orders.class_ids
        return np.array([self._orders.next_of(class_ids[c]) for c in self._rng.integers(len(class_ids), size=num)])


def at_most(labels: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return ascending rows of at most ``number`` random images of each class."""
    picks = [rng.permutation(np.flatnonzero(labels == class_id))[:number] for class_id in np.unique(labels)]
    return np.sort(np.concatenate(picks))


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
