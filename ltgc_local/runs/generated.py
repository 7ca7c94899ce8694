"""Generated images by key or row, never all in memory: a run may have a million, and a step needs few.

What is known of all images of a step is a ``RowIndex``; of the images of a chunk, a list of ``GeneratedRow``.
"""

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
from ltgc_local.runs.chunk_plan import StepFiles
from ltgc_local.runs.disk import redo_file
from ltgc_local.runs.files import GeneratedImage, decode_png, image_schema, read_images
from ltgc_local.runs.image_keys import KEY, Key, KeyNames, Keys
from ltgc_local.runs.row_index import FileRows, RowIndex

CACHED_FILES = 4


@dataclass(frozen=True)
class GeneratedRow:
    """What an image shard says about one image, and where the image itself is."""

    class_id: int
    description_id: int
    round: int
    description: str
    path: Path
    row: int
    init_image: str = ""  # key of the training image that it started from; "" for noise alone

    @property
    def key(self) -> Key:
        return self.class_id, self.description_id, self.round


def read_index(files: Sequence[Path]) -> RowIndex:
    """Read the keys of the images in files, in the order of the files."""
    return RowIndex.of(files, [read_keys(file) for file in files])


def read_keys(path: Path) -> Keys:
    """Return the keys (N, 3) in a file of images."""
    return keys_of(_typed(path, read_parquet(path, KEY)))


def keys_of(table: Any) -> Keys:
    """Return the keys (N, 3) of a pyarrow table of images."""
    return np.stack([table[name].to_numpy() for name in KEY], axis=1)


def read_rows(items: Iterable[FileRows]) -> list[GeneratedRow]:
    """Return what the files say about some images, but not the images, in the order of their keys."""
    found = []
    for item in items:
        facts = take_rows(item, [*KEY, "description", "init_image"]).to_pylist()
        found += [GeneratedRow(**each, path=item.path, row=row) for row, each in zip(item.rows, facts, strict=True)]
    return sorted(found, key=lambda row: row.key)


def take_rows(item: FileRows, columns: Sequence[str]) -> Any:
    """Return columns of some rows of a file of images, as a pyarrow table."""
    table = _read_table(item.path, tuple(columns))
    if not all(0 <= row < table.num_rows for row in item.rows):
        raise ArtefactError(
            f"{item.path}: has {table.num_rows} images, and others are asked for; {redo_file(item.path)}"
        )
    return _typed(item.path, table.take(item.rows))


@lru_cache(maxsize=CACHED_FILES)
def _read_table(path: Path, columns: tuple[str, ...]) -> Any:
    """Read a file again only if others were read since: the next chunk often has images of the same files."""
    return read_parquet(path, columns)


def _typed(path: Path, table: Any) -> Any:
    """Return a table of images with the columns' types, which a received file may not have."""
    import pyarrow as pa

    schema = image_schema()
    try:
        found = table.select([name for name in schema.names if name in table.column_names])
        found = found.cast(pa.schema([schema.field(name) for name in found.column_names], schema.metadata))
    except pa.ArrowException as problem:
        raise ArtefactError(f"{path}: damaged ({problem}); {redo_file(path)}") from problem
    if empty := [name for name in found.column_names if found[name].null_count]:
        raise ArtefactError(f"{path}: damaged (an image has no {empty[0]}); {redo_file(path)}")
    return found


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
        self.name, self._index = name, read_index(files)
        self.files = self._index.files
        self.labels = np.ascontiguousarray(self._index.keys[:, 0])  # (N,)
        self.keys = KeyNames(self._index.keys)

    def __len__(self) -> int:
        return len(self._index)

    def image(self, row: int) -> Image.Image:
        """Return one image as it was generated."""
        if not 0 <= row < len(self):
            raise IndexError(f"no generated image {row}; there are {len(self)}")
        file = self.files[self._index.numbers[row]]
        return decode_png(_read_images(file)[int(self._index.rows[row])].as_py()["bytes"])


@lru_cache(maxsize=CACHED_FILES)
def _read_images(file: Path) -> Any:
    """Return one file's encoded images."""
    return read_parquet(file, ["image"])["image"]
