"""Read a corpus from Parquet files of train, val and test, one or several a split, as ``datasets`` writes them.

Columns: ``image``, a struct of encoded ``bytes`` and ``path`` (``datasets.Image``), and ``label``, whole numbers whose
class names are in the schema's "huggingface" metadata (``datasets.ClassLabel``). Read with pyarrow and Pillow alone:
``datasets`` would copy every file into a cache in the home folder first.
"""

from __future__ import annotations

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
from PIL import Image

from ltgc_local.corpora.base import Corpus
from ltgc_local.corpora.class_names import read_class_names
from ltgc_local.corpora.decode import decode_image, decode_several
from ltgc_local.errors import DataError
from ltgc_local.recipe.schema import Data
from ltgc_local.store import digest_file

SPLITS = ("train", "val", "test")
#: What ``datasets`` and others call a split's files: train.parquet, or train-00000-of-00004.parquet, in the folder or
#: in data/ under it.
STEMS = {"train": ("train",), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}
#: Row groups whose encoded images stay in memory; the shipped data have one a split.
CACHED_ROW_GROUPS = 6


@dataclass(frozen=True, eq=False)
class ParquetSplit:
    """One split in Parquet files. It pickles without images, so that worker processes can have it."""

    name: str
    files: tuple[Path, ...]
    keys: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)  # (N,)
    starts: tuple[int, ...] = field(repr=False)  # first row of each row group, over all files
    groups: tuple[tuple[int, int], ...] = field(repr=False)  # (file, row group in it)
    mtimes_ns: tuple[int, ...] = field(repr=False)
    image_column: str = "image"

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, row: int) -> Image.Image:
        """Return one image in mode L or RGB, upright.

        Raises:
            DataError: it does not decode; names its key and the file.
            IndexError: there is no such row.
        """
        if not 0 <= row < len(self.keys):
            raise IndexError(f"{self.files[0]}: no row {row}; there are {len(self.keys)}")
        place = int(np.searchsorted(self.starts, row, side="right")) - 1
        file, group = self.groups[place]
        column = _read_images(self.files[file], self.mtimes_ns[file], group, self.image_column)
        packed = column[row - self.starts[place]].as_py()
        where = f"{self.files[file]}: image {self.keys[row]}"
        if not packed or not packed["bytes"]:
            raise DataError(f"{where} has no bytes in the file; write the Parquet with embedded images")
        return decode_image(packed["bytes"], where)

    def images(self, rows: Iterable[int]) -> list[Image.Image]:
        """Return several images, in the order of ``rows``."""
        return decode_several(rows, self.image)

    def missing(self) -> list[str]:
        return []


def open_parquet_folder(data: Data) -> Corpus:
    """Open a folder of Parquet files as ``datasets`` writes them (benchmark ``parquet``)."""
    names = None if data.class_names is None else read_class_names(data.class_names)
    return open_parquet(
        "parquet", data.root, class_names=names, image_column=data.image_column, label_column=data.label_column
    )


def open_parquet(
    name: str,
    root: Path,
    *,
    made_by: str = "",
    class_names: tuple[str, ...] | None = None,
    image_column: str = "image",
    label_column: str = "label",
) -> Corpus:
    """Open a folder of train, val and test in Parquet; images stay in the files.

    Args:
        name: the benchmark's name.
        root: the folder.
        made_by: the command that makes the files, for messages.
        class_names: instead of those in the files' schema.

    Raises:
        DataError: a file is missing or damaged, has not the columns, or its labels have no names.
    """
    hint = f"; type: {made_by}" if made_by else ""
    files = {split: _find_files(root, split) for split in SPLITS}
    missing = [f"{split}.parquet" for split in SPLITS if not files[split]]
    if missing:
        what = "no such folder" if not root.is_dir() else f"{' and '.join(missing)} not there"
        raise DataError(f"{root}: {what}; {name} is train.parquet, val.parquet and test.parquet in this folder{hint}")
    names = class_names
    splits = {}
    for split in SPLITS:
        parts = []
        for path in files[split]:
            try:
                part, own = _open_file(path, image_column, label_column, class_names)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{path}: not a Parquet file, or a damaged one: {_first_line(error)}{hint}") from error
            if names is not None and own != names:
                raise DataError(f"{path}: its class names are not train.parquet's: {_difference(names, own)}{hint}")
            names = own
            parts.append(part)
        splits[split] = _join(split, files[split], parts, image_column)
    val_is_test = _are_copies(files["val"], files["test"])
    return Corpus(name, names or (), splits["train"], splits["val"], splits["test"], val_is_test)


def _are_copies(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Return whether two splits are the same bytes, file by file; contents are read only where all sizes agree."""
    if [path.stat().st_size for path in files] != [path.stat().st_size for path in others]:
        return False
    return all(digest_file(one) == digest_file(other) for one, other in zip(files, others, strict=True))


def _find_files(root: Path, split: str) -> tuple[Path, ...]:
    for folder in (root, root / "data"):
        for stem in STEMS[split]:
            if (folder / f"{stem}.parquet").is_file():
                return (folder / f"{stem}.parquet",)
            if shards := sorted(folder.glob(f"{stem}-*.parquet")):
                return tuple(shards)
    return ()


def _open_file(
    path: Path, image_column: str, label_column: str, class_names: tuple[str, ...] | None
) -> tuple[tuple[NDArray[np.int64], list[int]], tuple[str, ...]]:
    """Read the labels, row groups' sizes and class names of one file, not its images."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        for column, wanted in ((image_column, "a struct of 'bytes' and 'path'"), (label_column, "whole numbers")):
            if column not in schema.names:
                columns = ", ".join(schema.names)
                raise DataError(f"{path}: no column '{column}' ({wanted}); its columns are {columns}")
            kind = schema.field(column).type
            if not (pa.types.is_integer(kind) if column == label_column else _is_image(kind)):
                raise DataError(f"{path}: column '{column}' is {kind}, expected {wanted}")
        names = class_names or _class_names(path, schema.metadata or {}, label_column)
        column = file.read(columns=[label_column])[label_column]
        if column.null_count:
            raise DataError(f"{path}: {column.null_count} of {len(column)} labels are missing")
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    return (np.array(column.to_numpy(), dtype=np.int64), sizes), names


def _join(
    split: str, files: tuple[Path, ...], parts: Sequence[tuple[NDArray[np.int64], list[int]]], image_column: str
) -> ParquetSplit:
    labels = np.concatenate([labels for labels, _ in parts])
    labels.setflags(write=False)
    groups = [(file, group) for file, (_, sizes) in enumerate(parts) for group in range(len(sizes))]
    sizes = [size for _, sizes in parts for size in sizes]
    starts = tuple(int(start) for start in np.cumsum([0, *sizes[:-1]])) if sizes else ()
    width = max(5, len(str(len(labels))))
    keys = tuple(f"{split}/{row:0{width}d}" for row in range(len(labels)))
    mtimes = tuple(path.stat().st_mtime_ns for path in files)
    return ParquetSplit(split, files, keys, labels, starts, tuple(groups), mtimes, image_column)


def _is_image(kind: Any) -> bool:
    return bool(pa.types.is_struct(kind)) and "bytes" in {kind.field(i).name for i in range(kind.num_fields)}


def _class_names(path: Path, metadata: dict[bytes, bytes], column: str) -> tuple[str, ...]:
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][column]["names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: no class names for '{column}'; write the file with datasets' ClassLabel, "
            "which puts them in the schema's 'huggingface' metadata"
        ) from error
    return tuple(names)


@lru_cache(maxsize=CACHED_ROW_GROUPS)
def _read_images(path: Path, mtime_ns: int, group: int, column: str) -> Any:
    """Return one row group's encoded images; ``mtime_ns`` keeps a replaced file apart from the old one."""
    try:
        with pq.ParquetFile(path) as file:
            if path.stat().st_mtime_ns != mtime_ns:
                raise DataError(f"{path}: changed while it was in use; run again")
            return file.read_row_group(group, columns=[column])[column]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: row group {group} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _difference(expected: tuple[str, ...], found: tuple[str, ...]) -> str:
    if len(expected) != len(found):
        return f"{len(found)} names, expected {len(expected)}"
    class_id = next(i for i, (want, name) in enumerate(zip(expected, found, strict=True)) if want != name)
    return f"class {class_id} is '{found[class_id]}', expected '{expected[class_id]}'"
