"""Where the rows of a step's files are, by their keys: columns for a million images, of 32 bytes each, not objects.

Plans of chunks name rows of files (``FileRows``); the worker that makes a chunk reads what these files say about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.chunk_plan import StepFile
from ltgc_local.runs.disk import redo_file
from ltgc_local.runs.image_keys import Keys, by_key, match


@dataclass(frozen=True)
class FileRows:
    """Rows of one file, images or records: an item of a plan of chunks."""

    path: StepFile
    rows: tuple[int, ...]

    @property
    def num_items(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class RowIndex:
    """N rows and their keys.

    Attributes:
        files: those that hold the rows.
        keys: class_id, description_id and round of each, (N, 3).
        numbers: of each row's file, (N,).
        rows: the rows in their files, (N,).
    """

    files: tuple[Path, ...]
    keys: Keys
    numbers: NDArray[np.int32]
    rows: NDArray[np.int32]

    @classmethod
    def joined(cls, parts: Iterable[RowIndex]) -> RowIndex:
        """Put several together, one after the other."""
        found = [cls.of([], []), *parts]
        starts = np.cumsum([0, *(len(part.files) for part in found)])
        return RowIndex(
            tuple(path for part in found for path in part.files),
            np.concatenate([part.keys for part in found]),
            np.concatenate([part.numbers + np.int32(start) for part, start in zip(found, starts[:-1], strict=True)]),
            np.concatenate([part.rows for part in found]),
        )

    @classmethod
    def of(cls, files: Sequence[Path], keys: Sequence[Keys], rows: Sequence[NDArray[Any]] | None = None) -> Self:
        """Put together what was read from each file: the keys of all its rows, or of those in ``rows``."""
        sizes = [len(each) for each in keys]
        places = [np.arange(size) for size in sizes] if rows is None else rows
        return cls(
            tuple(files),
            np.concatenate([np.empty((0, 3), np.int64), *keys]),
            np.repeat(np.arange(len(files), dtype=np.int32), sizes),
            np.concatenate([np.empty(0, np.int32), *(each.astype(np.int32) for each in places)]),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, places: NDArray[Any] | slice) -> RowIndex:
        return RowIndex(self.files, self.keys[places], self.numbers[places], self.rows[places])

    def sorted(self) -> RowIndex:
        """Return the rows in the order of their keys."""
        order = by_key(self.keys)
        return self if (np.diff(order) == 1).all() else self.take(order)

    def of_class(self, class_id: int) -> RowIndex:
        return self.take(np.flatnonzero(self.keys[:, 0] == class_id))

    def find(self, keys: Keys) -> RowIndex:
        """Return the rows of images with these keys (M, K), of which K columns are given.

        Raises:
            ArtefactError: one is missing.
        """
        try:
            return self.take(match(self.keys[:, : keys.shape[1]], keys))
        except LookupError as problem:
            where = self.files[0] if self.files else Path("images")
            raise ArtefactError(f"{where.parent}: image {problem}; {redo_file(where)}") from None

    def parts(self, size: int) -> list[RowIndex]:
        """Cut the rows into parts of ``size``; no rows give no part."""
        return [self.take(slice(start, start + size)) for start in range(0, len(self), size)]

    def by_class(self) -> list[RowIndex]:
        """Return the rows of each class that has any, by class id."""
        order = np.argsort(self.keys[:, 0], kind="stable")
        starts = np.flatnonzero(np.diff(self.keys[order, 0])) + 1
        return [self.take(part) for part in np.split(order, starts)] if len(self) else []

    def by_file(self) -> list[tuple[Path, NDArray[np.int64]]]:
        """Return each file that holds some of the rows with their places here, in the order of the first places."""
        order = np.argsort(self.numbers, kind="stable")
        starts = np.flatnonzero(np.diff(self.numbers[order])) + 1
        parts = np.split(order, starts) if len(self) else []
        return [(self.files[self.numbers[part[0]]], part) for part in sorted(parts, key=lambda part: int(part[0]))]

    def items(self) -> list[FileRows]:
        """Return the rows as items of a chunk."""
        return [FileRows(path, tuple(self.rows[places].tolist())) for path, places in self.by_file()]
