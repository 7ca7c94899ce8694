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

from ltgc_local.datasets.arrow_columns import (
    NAME_COLUMNS,
    PackedSplit,
    are_copies,
    check_columns,
    check_same_names,
    first_line,
    number_keys,
    parse_class_names,
    parse_labels,
    unreadable,
)
from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.class_names import read_class_names
from ltgc_local.datasets.decode import rules_of
from ltgc_local.datasets.lists import SPLIT_NAMES, SPLITS
from ltgc_local.datasets.looking import is_folder, list_names
from ltgc_local.errors import BackendError, DataError
from ltgc_local.image_decoding import ImageRules
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.recipe.schema import Data
from ltgc_local.regular_files import check_regular

#: Row groups whose encoded images stay in memory; the shipped data have one a split.
CACHED_ROW_GROUPS = 6
MAX_ROWS, MAX_ROW_GROUP_BYTES = 50_000_000, 4 * 2**30


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
    rules: ImageRules
    image_column: str

    def packed(self, row: int) -> tuple[dict[str, Any] | None, Path]:
        place = int(np.searchsorted(self.starts, row, side="right")) - 1
        file, group = self.groups[place]
        column = _read_images(self.files[file], self.mtimes_ns[file], group, self.image_column)
        return column[row - self.starts[place]].as_py(), self.files[file]


def open_parquet_folder(data: Data) -> Corpus:
    """Open a folder of Parquet files as ``datasets`` writes them (benchmark ``parquet``)."""
    return open_parquet("parquet", data)


def open_parquet(name: str, data: Data, made_by: str = "") -> Corpus:
    """Open a folder of train, val and test in Parquet; images stay in the files.

    Args:
        name: the benchmark's name.
        data: the folder, the columns, and class names in place of those in the files' schema.
        made_by: the command that makes the files, for messages.

    Raises:
        DataError: a file is missing or damaged, has not the columns, or its labels have no names.
    """
    root, class_names = data.root, None if data.class_names is None else read_class_names(data.class_names)
    hint = f"; type: {made_by}" if made_by else ""
    files = {split: _find_files(root, split) for split in SPLITS}
    missing = [f"{split}.parquet" for split in SPLITS if not files[split]]
    if missing:
        what = "no such folder" if not is_folder(root) else f"{' and '.join(missing)} not there"
        raise DataError(f"{root}: {what}; {name} is train.parquet, val.parquet and test.parquet in this folder{hint}")
    names = class_names
    splits = {}
    for split in SPLITS:
        parts = []
        for path in files[split]:
            try:
                check_regular(path)
                part, own = _open_file(path, data, class_names, hint or NAME_COLUMNS)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise DataError(f"{path}: {unreadable(error, 'a Parquet file')}{hint}") from error
            names = own if names is None else names
            check_same_names(path, names, own, "train.parquet", hint)
            parts.append(part)
        splits[split] = _join(split, files[split], parts, data)
    val_is_test = are_copies(files["val"], files["test"])
    return Corpus(name, names or (), splits["train"], splits["val"], splits["test"], val_is_test)


def _find_files(root: Path, split: str) -> tuple[Path, ...]:
    """Return train.parquet, or train-00000-of-00004.parquet and so on, of the folder or of data/ under it."""
    for folder in (root, root / "data"):
        names = list_names(folder) if is_folder(folder) else []
        for stem in SPLIT_NAMES[split]:
            if f"{stem}.parquet" in names:
                return (folder / f"{stem}.parquet",)
            if shards := [name for name in names if name.startswith(f"{stem}-") and name.endswith(".parquet")]:
                return tuple(folder / name for name in shards)
    return ()


def _open_file(
    path: Path, data: Data, class_names: tuple[str, ...] | None, hint: str
) -> tuple[tuple[NDArray[np.int64], list[int]], tuple[str, ...]]:
    """Read the labels, row groups' sizes and class names of one file, not its images."""
    with pq.ParquetFile(path) as file:
        _check_amounts(path, file.metadata)
        schema = file.schema_arrow
        check_columns(path, schema, data.image_column, data.label_column, hint)
        names = class_names or parse_class_names(path, schema, data.label_column)
        labels = parse_labels(path, file.read(columns=[data.label_column])[data.label_column])
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    return (labels, sizes), names


def _check_amounts(path: Path, facts: Any) -> None:
    """Refuse a file that unpacks to more than memory should hold: a few bytes can stand for any number of rows.

    Raises:
        DataError: it has too many rows, or a row group that is too large.
    """
    if facts.num_rows > MAX_ROWS:
        raise DataError(f"{path}: {facts.num_rows} rows, and at most {MAX_ROWS} are read")
    largest = max((facts.row_group(i).total_byte_size for i in range(facts.num_row_groups)), default=0)
    if largest > MAX_ROW_GROUP_BYTES:
        raise DataError(
            f"{path}: a row group of {largest} bytes, and at most {MAX_ROW_GROUP_BYTES} are read at once; write it "
            "with smaller row groups"
        )


def _join(
    split: str, files: tuple[Path, ...], parts: Sequence[tuple[NDArray[np.int64], list[int]]], data: Data
) -> ParquetSplit:
    labels = np.concatenate([labels for labels, _ in parts])
    labels.setflags(write=False)
    groups = [(file, group) for file, (_, sizes) in enumerate(parts) for group in range(len(sizes))]
    sizes = [size for _, sizes in parts for size in sizes]
    starts = tuple(int(start) for start in np.cumsum([0, *sizes[:-1]])) if sizes else ()
    mtimes = tuple(path.stat().st_mtime_ns for path in files)
    keys = number_keys(split, len(labels))
    return ParquetSplit(split, files, keys, labels, starts, tuple(groups), mtimes, rules_of(data), data.image_column)


@lru_cache(maxsize=CACHED_ROW_GROUPS)
def _read_images(path: Path, mtime_ns: int, group: int, column: str) -> Any:
    """Return one row group's encoded images; ``mtime_ns`` keeps a replaced file apart from the old one."""
    try:
        check_regular(path)
        with pq.ParquetFile(path) as file:
            if path.stat().st_mtime_ns != mtime_ns:
                raise DataError(f"{path}: changed while it was in use; run again")
            return file.read_row_group(group, columns=[column])[column]
    except (pa.ArrowException, OSError) as error:
        if is_out_of_memory(error):
            raise BackendError(f"out of memory while reading {path}; write it with smaller row groups") from error
        raise DataError(f"{path}: row group {group} cannot be read: {first_line(error)}") from error
