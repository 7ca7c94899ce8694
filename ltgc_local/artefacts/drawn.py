"""The drawn images of a step as rows of its Parquet files, decoded when asked for: all at once would not fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ltgc_local.artefacts.files import decode_png

CACHED_FILES = 2


class DrawnSplit:
    """Drawn images by row, in the order of the files; labels and keys are there without decoding. It pickles."""

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        import pyarrow.parquet as pq

        self.name, self.files = name, tuple(files)
        tables = [pq.read_table(file, columns=["class_id", "description_id", "round"]) for file in files]
        rows = [row for table in tables for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
        self.labels = np.array([class_id for class_id, _, _ in rows], dtype=np.int64)  # (N,)
        self.keys = tuple("_".join(map(str, row)) for row in rows)
        self._starts = np.cumsum([0, *(table.num_rows for table in tables)])

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, row: int) -> Image.Image:
        """Return one image as it was drawn."""
        if not 0 <= row < len(self):
            raise IndexError(f"no drawn image {row}; there are {len(self)}")
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return decode_png(_read_images(self.files[number])[row - self._starts[number]].as_py()["bytes"])


@lru_cache(maxsize=CACHED_FILES)
def _read_images(file: Path) -> Any:
    """Return one file's encoded images."""
    import pyarrow.parquet as pq

    return pq.read_table(file, columns=["image"])["image"]
