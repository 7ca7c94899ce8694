"""The keys of generated images (class_id, description_id, round) as columns: in order, joined, and as texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

Key = tuple[int, int, int]
KEY = ["class_id", "description_id", "round"]
Keys = NDArray[np.int64]  # (N, 3), or fewer columns


def by_key(keys: Keys) -> NDArray[np.int64]:
    """Return the order that sorts keys (N, K), which is stable."""
    return np.lexsort(keys.T[::-1])


def match(keys: Keys, wanted: Keys) -> NDArray[np.int64]:
    """Return the place in ``keys`` (N, K) of each key in ``wanted`` (M, K), the last of several: (M,).

    Raises:
        LookupError: one is not there; of files that contradict each other.
    """
    known, asked = as_numbers(keys, wanted)
    order = np.argsort(known, kind="stable")
    places = np.searchsorted(known[order], asked, side="right") - 1
    is_there = places >= 0
    is_there[is_there] = known[order[places[is_there]]] == asked[is_there]
    if not is_there.all():
        raise LookupError(f"{tuple(wanted[int(np.argmin(is_there))].tolist())} is missing")
    found: NDArray[np.int64] = order[places]
    return found


def as_numbers(*tables: Keys) -> list[NDArray[np.int64]]:
    """Return one number for each key, in their order and equal where they are."""
    filled = [table for table in tables if len(table)]
    low = np.min([table.min(0) for table in filled], axis=0).tolist() if filled else []
    high = np.max([table.max(0) for table in filled], axis=0).tolist() if filled else []
    spans = [last - first + 1 for first, last in zip(low, high, strict=True)]
    if math.prod(spans) >= 2**63:
        raise LookupError("keys of images are too large")
    numbers = [np.zeros(len(table), np.int64) for table in tables]
    for number, table in zip(numbers, tables, strict=True):
        for column, (first, span) in enumerate(zip(low, spans, strict=True)):
            number *= span
            number += table[:, column] - first
    return numbers


@dataclass(frozen=True, eq=False)
class KeyNames(Sequence[str]):
    """Keys as texts, "class_description_round", made when they are asked for."""

    keys: Keys

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> KeyNames: ...
    def __getitem__(self, place: int | slice) -> str | KeyNames:
        return KeyNames(self.keys[place]) if isinstance(place, slice) else "_".join(map(str, self.keys[place].tolist()))

    def __iter__(self) -> Iterator[str]:
        return ("_".join(map(str, key)) for key in self.keys.tolist())
