"""Read a corpus from Parquet files of train, val and test, one or several a split, as ``datasets`` writes them.

Read with pyarrow and Pillow alone: of Parquet ``datasets`` would first copy every file into a cache in the home folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ltgc_local.corpora.arrow_columns import (
    NAME_COLUMNS,
    PackedSplit,
    are_copies,
    check_columns,
    check_same_names,
    first_line,
    number_keys,
    parse_class_names,
    parse_labels,
)
from ltgc_local.corpora.base import Corpus
from ltgc_local.corpora.class_names import read_class_names
from ltgc_local.corpora.lists import SPLIT_NAMES, SPLITS
from ltgc_local.errors import DataError
from ltgc_local.recipe.schema import Data

#: Row groups whose encoded images stay in memory; the shipped data have one a split.
CACHED_ROW_GROUPS = 6


@dataclass(frozen=True, eq=False)
class ParquetSplit(PackedSplit):
    """One split in Parquet files. It pickles without images, so that worker processes can have it."""

    name: str
    files: tuple[Path, ...]
    keys: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)  # (N,)
    starts: tuple[int, ...] = field(repr=False)  # first row of each row group, over all files
    groups: tuple[tuple[int, int], ...] = field(repr=False)  # (file, row group in it)
    mtimes_ns: tuple[int, ...] = field(repr=False)
    image_column: str = "image"

    def packed(self, row: int) -> tuple[dict[str, Any] | None, Path]:
        place = int(np.searchsorted(self.starts, row, side="right")) - 1
        file, group = self.groups[place]
        column = _read_images(self.files[file], self.mtimes_ns[file], group, self.image_column)
        return column[row - self.starts[place]].as_py(), self.files[file]


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
                part, own = _open_file(path, image_column, label_column, class_names, hint or NAME_COLUMNS)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{path}: not a Parquet file, or a damaged one: {first_line(error)}{hint}") from error
            names = own if names is None else names
            check_same_names(path, names, own, "train.parquet", hint)
            parts.append(part)
        splits[split] = _join(split, files[split], parts, image_column)
    val_is_test = are_copies(files["val"], files["test"])
    return Corpus(name, names or (), splits["train"], splits["val"], splits["test"], val_is_test)


def _find_files(root: Path, split: str) -> tuple[Path, ...]:
    """Return train.parquet, or train-00000-of-00004.parquet and so on, of the folder or of data/ under it."""
    for folder in (root, root / "data"):
        for stem in SPLIT_NAMES[split]:
            if (folder / f"{stem}.parquet").is_file():
                return (folder / f"{stem}.parquet",)
            if shards := sorted(folder.glob(f"{stem}-*.parquet")):
                return tuple(shards)
    return ()


def _open_file(
    path: Path, image_column: str, label_column: str, class_names: tuple[str, ...] | None, hint: str
) -> tuple[tuple[NDArray[np.int64], list[int]], tuple[str, ...]]:
    """Read the labels, row groups' sizes and class names of one file, not its images."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        check_columns(path, schema, image_column, label_column, hint)
        names = class_names or parse_class_names(path, schema, label_column)
        labels = parse_labels(path, file.read(columns=[label_column])[label_column])
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    return (labels, sizes), names


def _join(
    split: str, files: tuple[Path, ...], parts: Sequence[tuple[NDArray[np.int64], list[int]]], image_column: str
) -> ParquetSplit:
    labels = np.concatenate([labels for labels, _ in parts])
    labels.setflags(write=False)
    groups = [(file, group) for file, (_, sizes) in enumerate(parts) for group in range(len(sizes))]
    sizes = [size for _, sizes in parts for size in sizes]
    starts = tuple(int(start) for start in np.cumsum([0, *sizes[:-1]])) if sizes else ()
    mtimes = tuple(path.stat().st_mtime_ns for path in files)
    return ParquetSplit(
        split, files, number_keys(split, len(labels)), labels, starts, tuple(groups), mtimes, image_column
    )


@lru_cache(maxsize=CACHED_ROW_GROUPS)
def _read_images(path: Path, mtime_ns: int, group: int, column: str) -> Any:
    """Return one row group's encoded images; ``mtime_ns`` keeps a replaced file apart from the old one."""
    try:
        with pq.ParquetFile(path) as file:
            if path.stat().st_mtime_ns != mtime_ns:
                raise DataError(f"{path}: changed while it was in use; run again")
            return file.read_row_group(group, columns=[column])[column]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: row group {group} cannot be read: {first_line(error)}") from error
