"""The judgements of a run's images as columns: a million of them fit in memory, and a few are read again whole."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ltgc_local.errors import ArtefactError
from ltgc_local.records import R, parse_lines, parse_some
from ltgc_local.runs.disk import redo_file
from ltgc_local.runs.image_keys import KEY, Keys, match

if TYPE_CHECKING:
    from ltgc_local.runs.directory import RunDirectory


@dataclass(frozen=True, eq=False)
class Judgements:
    """N judgements, in the order of steps and files.

    Attributes:
        files: the JSON lines that they are in.
        ends: how many judgements the files up to each hold, (F,).
        keys: of the images, (N, 3).
        cosines, thresholds: (N,), NaN for none.
        failed: which entry of ``kinds`` each is, (N,): what rejected the image, nothing if it was accepted.
    """

    files: tuple[Path, ...]
    ends: NDArray[np.int64]
    keys: Keys
    cosines: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    failed: NDArray[np.int32]
    kinds: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, run: RunDirectory, steps: Iterable[str]) -> Self:
        """Read the judgements that steps wrote.

        Raises:
            ArtefactError: a step is not complete, or one of its files is damaged.
        """
        kinds: dict[tuple[str, ...], int] = {}
        keys, numbers, failed = array("q"), array("d"), array("i")  # which grow in place

        def add(text: str) -> int:
            found = parse_lines(text.split("\n"))
            keys.extend(each[name] for each in found for name in KEY)
            numbers.extend(_number(each[name]) for each in found for name in ("cosine", "threshold"))
            failed.extend(kinds.setdefault(tuple(map(str, each["failed"])), len(kinds)) for each in found)
            return len(found)

        files = tuple(path for step in steps for path in run.files(step, "scores"))
        ends = np.cumsum([run.parse_file(path, add) for path in files], dtype=np.int64)
        pairs = _as_numpy(numbers).reshape(-1, 2)
        codes = _as_numpy(failed)
        return cls(files, ends, _as_numpy(keys).reshape(-1, 3), pairs[:, 0], pairs[:, 1], codes, tuple(kinds))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Whether each image was accepted, (N,)."""
        return np.array([not kind for kind in self.kinds], bool)[self.failed] if self.kinds else np.empty(0, bool)

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the place of the judgement of each image (M, 3): (M,).

        Raises:
            ArtefactError: one was not judged.
        """
        try:
            return match(self.keys, keys)
        except LookupError as problem:
            where = self.files[0] if self.files else Path("scores")
            raise ArtefactError(f"{where.parent}: the judgement of image {problem}; {redo_file(where)}") from None

    def records(self, run: RunDirectory, places: NDArray[np.int64], record: type[R]) -> list[R]:
        """Read the judgements at some places whole, in the order of the places."""
        found: dict[int, R] = {}
        wanted = np.unique(places)
        numbers = np.searchsorted(self.ends, wanted, side="right")
        for part in np.split(wanted, np.flatnonzero(np.diff(numbers)) + 1) if len(wanted) else []:
            number = int(np.searchsorted(self.ends, part[0], side="right"))
            start = int(self.ends[number - 1]) if number else 0
            rows = (part - start).tolist()
            read = run.parse_file(self.files[number], partial(parse_some, record, rows))
            found |= zip(part.tolist(), read, strict=True)
        return [found[int(place)] for place in places.tolist()]


def _as_numpy(numbers: array[Any]) -> NDArray[Any]:
    kind = np.dtype(numbers.typecode)
    return np.frombuffer(numbers, kind) if len(numbers) else np.empty(0, kind)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
