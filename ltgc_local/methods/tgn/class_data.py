"""The images of some classes of a split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltgc_local.training.images import Source


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a split, as a source of images. Picklable."""

    name: str
    split: Source
    rows: NDArray[np.int64]

    @cached_property
    def keys(self) -> Sequence[str]:
        return tuple(self.split.keys[row] for row in self.rows.tolist())

    @property
    def labels(self) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = self.split.labels[self.rows]
        return labels

    @property
    def files(self) -> Sequence[Path]:
        return self.split.files

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, row: int) -> Image.Image:
        return self.split.image(int(self.rows[row]))

    def images(self, rows: Iterable[int]) -> list[Image.Image]:
        return [self.image(int(row)) for row in rows]


def part_of(split: Source, class_ids: Sequence[int], name: str) -> Part:
    """Return the images of these classes; the file of decoded images is called ``name``."""
    return Part(name, split, np.flatnonzero(np.isin(split.labels, class_ids)))


def index_labels(labels: NDArray[np.int64], class_ids: Sequence[int]) -> NDArray[np.int64]:
    """Return the place of each label (N,) in ``class_ids``, all of which are among them."""
    place = {class_id: number for number, class_id in enumerate(class_ids)}
    return np.array([place[label] for label in labels.tolist()], dtype=np.int64)
