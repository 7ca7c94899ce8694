"""Generated images by key or row, never all in memory: a run may have hundreds of thousands, and a step needs few."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.arrays import read_arrays, read_parquet
from ltgc_local.runs.chunk_plan import StepFile, StepFiles
from ltgc_local.runs.disk import redo_file
from ltgc_local.runs.files import GeneratedImage, decode_png, read_images

Key = tuple[int, int, int]  # class_id, description_id, round
KEY = ["class_id", "description_id", "round"]
CACHED_FILES = 2


@dataclass(frozen=True)
class GeneratedRow:
    """What an image shard says about one image, and where the image itself is."""

    class_id: int
    description_id: int
    round: int
    description: str
    path: StepFile
    row: int
    init_image: str = ""  # key of the training image that it started from; "" for noise alone

    @property
    def key(self) -> Key:
        return self.class_id, self.description_id, self.round


def read_rows(paths: Iterable[Path]) -> list[GeneratedRow]:
    """Read what shards say about their images, but not the images."""
    return [
        GeneratedRow(**fields, path=path, row=row)
        for path in paths
        for row, fields in enumerate(read_parquet(path, [*KEY, "description", "init_image"]).to_pylist())
    ]


def read_generated(rows: Sequence[GeneratedRow]) -> list[GeneratedImage]:
    """Read the images of ``rows``, in that order; memory holds them and one shard."""
    by_path: dict[Path, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        by_path[row.path].append(place)
    found: dict[int, GeneratedImage] = {}
    for path, places in by_path.items():
        found |= zip(places, read_images([path], [rows[place].row for place in places]), strict=True)
    return [found[place] for place in range(len(rows))]


def read_features(rows: Sequence[GeneratedRow], files: StepFiles) -> NDArray[np.float32]:
    """Read CLIP's unit rows (N, D), written next to the shards of ``rows``, in that order; all must be there."""
    wanted = {row.key for row in rows}
    found: dict[Key, NDArray[np.float32]] = {}
    for path in dict.fromkeys(row.path for row in rows):
        file = path.with_name(path.name.replace("images", "features")).with_suffix(".safetensors")
        written = read_arrays(files.file(files.name_of(file)))
        keys = map(tuple, written["keys"].tolist())
        found |= {key: features for key, features in zip(keys, written["features"], strict=True) if key in wanted}
    for row in rows:
        if row.key not in found:
            raise ArtefactError(f"{row.path}: no features of its image {row.key} are next to it; {redo_file(row.path)}")
    return np.stack([found[row.key] for row in rows])


class GeneratedSplit:
    """Generated images by row, in the order of the files; labels and keys are known without decoding. It pickles."""

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.name, self.files = name, tuple(files)
        tables = [read_parquet(file, KEY) for file in files]
        rows = [row for table in tables for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
        self.labels = np.array([class_id for class_id, _, _ in rows], dtype=np.int64)  # (N,)
        self.keys = tuple("_".join(map(str, row)) for row in rows)
        self._starts = np.cumsum([0, *(table.num_rows for table in tables)])

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, row: int) -> Image.Image:
        """Return one image as it was generated."""
        if not 0 <= row < len(self):
            raise IndexError(f"no generated image {row}; there are {len(self)}")
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return decode_png(_read_images(self.files[number])[row - self._starts[number]].as_py()["bytes"])


@lru_cache(maxsize=CACHED_FILES)
def _read_images(file: Path) -> Any:
    """Return one file's encoded images."""
    return read_parquet(file, ["image"])["image"]
