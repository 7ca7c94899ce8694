"""Read a corpus from train.parquet, val.parquet and test.parquet, laid out as ``datasets`` writes them.

Columns: ``image``, a struct of encoded ``bytes`` and ``path`` (``datasets.Image``), and ``label``, whole numbers whose
class names are in the schema's "huggingface" metadata (``datasets.ClassLabel``). Read with pyarrow and Pillow alone:
``datasets`` would copy every file into a cache in the home folder first.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ltgc_local.corpora.base import Corpus
from ltgc_local.errors import DataError

SPLITS = ("train", "val", "test")
#: Row groups whose encoded images stay in memory; the shipped data have one a split.
CACHED_ROW_GROUPS = 6


@dataclass(frozen=True, eq=False)
class ParquetSplit:
    """One split in one Parquet file. It pickles without images, so that worker processes can have it."""

    name: str
    path: Path
    keys: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)  # (N,)
    row_group_starts: tuple[int, ...] = field(repr=False)
    mtime_ns: int = field(repr=False)

    @property
    def files(self) -> Sequence[Path]:
        return (self.path,)

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, row: int) -> Image.Image:
        """Return one image in mode L or RGB, upright.

        Raises:
            DataError: it does not decode; names its key and the file.
            IndexError: there is no such row.
        """
        if not 0 <= row < len(self.keys):
            raise IndexError(f"{self.path}: no row {row}; there are {len(self.keys)}")
        group = int(np.searchsorted(self.row_group_starts, row, side="right")) - 1
        column = _read_images(self.path, self.mtime_ns, group)
        packed = column[row - self.row_group_starts[group]].as_py()
        where = f"{self.path}: image {self.keys[row]}"
        if not packed or not packed["bytes"]:
            raise DataError(f"{where} has no bytes in the file; write the Parquet with embedded images")
        try:
            picture = ImageOps.exif_transpose(Image.open(io.BytesIO(packed["bytes"])))
            return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, zlib.error and others
            raise DataError(f"{where} does not decode: {error}") from error

    def images(self, rows: Iterable[int]) -> list[Image.Image]:
        """Return several images, in the order of ``rows``."""
        return [self.image(int(row)) for row in rows]


def open_parquet(name: str, root: Path, *, made_by: str = "") -> Corpus:
    """Open a folder of train.parquet, val.parquet and test.parquet; images stay in the files.

    Args:
        name: the benchmark's name.
        root: the folder.
        made_by: the command that makes the files, for messages.

    Raises:
        DataError: a file is missing or damaged, has not the columns, or its labels have no names.
    """
    hint = f"; type: {made_by}" if made_by else ""
    missing = [f"{split}.parquet" for split in SPLITS if not (root / f"{split}.parquet").is_file()]
    if missing:
        what = "no such folder" if not root.is_dir() else f"{' and '.join(missing)} not there"
        raise DataError(f"{root}: {what}; {name} is train.parquet, val.parquet and test.parquet in this folder{hint}")
    class_names: tuple[str, ...] | None = None
    splits = {}
    for split in SPLITS:
        path = root / f"{split}.parquet"
        try:
            splits[split], names = _open_split(split, path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a Parquet file, or a damaged one: {_first_line(error)}{hint}") from error
        if class_names is not None and names != class_names:
            raise DataError(f"{path}: its class names are not train.parquet's: {_difference(class_names, names)}{hint}")
        class_names = names
    return Corpus(name, class_names or (), splits["train"], splits["val"], splits["test"])


def _open_split(split: str, path: Path) -> tuple[ParquetSplit, tuple[str, ...]]:
    """Read the labels and class names of one file, not its images."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        for column, wanted in (("image", "a struct of 'bytes' and 'path'"), ("label", "whole numbers")):
            if column not in schema.names:
                columns = ", ".join(schema.names)
                raise DataError(f"{path}: no column '{column}' ({wanted}); its columns are {columns}")
            kind = schema.field(column).type
            if not (pa.types.is_integer(kind) if column == "label" else _is_image(kind)):
                raise DataError(f"{path}: column '{column}' is {kind}, expected {wanted}")
        names = _class_names(path, schema.metadata or {})
        column = file.read(columns=["label"])["label"]
        if column.null_count:
            raise DataError(f"{path}: {column.null_count} of {len(column)} labels are missing")
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    labels = np.array(column.to_numpy(), dtype=np.int64)
    labels.setflags(write=False)
    width = max(5, len(str(len(labels))))
    keys = tuple(f"{split}/{row:0{width}d}" for row in range(len(labels)))
    starts = tuple(int(start) for start in np.cumsum([0, *sizes[:-1]])) if sizes else ()
    return ParquetSplit(split, path, keys, labels, starts, path.stat().st_mtime_ns), names


def _is_image(kind: Any) -> bool:
    return bool(pa.types.is_struct(kind)) and "bytes" in {kind.field(i).name for i in range(kind.num_fields)}


def _class_names(path: Path, metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: no class names for 'label'; write the file with datasets' ClassLabel, "
            "which puts them in the schema's 'huggingface' metadata"
        ) from error
    return tuple(names)


@lru_cache(maxsize=CACHED_ROW_GROUPS)
def _read_images(path: Path, mtime_ns: int, group: int) -> Any:
    """Return one row group's encoded images; ``mtime_ns`` keeps a replaced file apart from the old one."""
    try:
        with pq.ParquetFile(path) as file:
            if path.stat().st_mtime_ns != mtime_ns:
                raise DataError(f"{path}: changed while it was in use; run again")
            return file.read_row_group(group, columns=["image"])["image"]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: row group {group} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _difference(expected: tuple[str, ...], found: tuple[str, ...]) -> str:
    if len(expected) != len(found):
        return f"{len(found)} names, expected {len(expected)}"
    class_id = next(i for i, (want, name) in enumerate(zip(expected, found, strict=True)) if want != name)
    return f"class {class_id} is '{found[class_id]}', expected '{expected[class_id]}'"
