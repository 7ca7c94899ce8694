"""Read a corpus from Parquet files of train, val and test, one or several per split, as ``datasets`` writes them.

Read with pyarrow and Pillow alone: ``datasets`` would first copy every Parquet file into a cache in the home folder.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ltgc_local.datasets.base import Corpus, rules_of
from ltgc_local.datasets.lists import SPLIT_NAMES, SPLITS, read_class_names
from ltgc_local.datasets.packed import (
    PackedSplit,
    are_copies,
    check_columns,
    first_line,
    number_keys,
    parse_class_names,
    parse_labels,
)
from ltgc_local.datasets.paths import is_folder, list_names
from ltgc_local.errors import BackendError, DataError
from ltgc_local.image_decoding import ImageRules
from ltgc_local.out_of_memory import describe_lack, is_out_of_memory
from ltgc_local.recipe.inputs import Data
from ltgc_local.regular_files import check_regular

#: Row groups whose encoded images stay in memory; the shipped data have one per split.
CACHED_ROW_GROUPS = 6
MAX_ROWS, MAX_ROW_GROUP_BYTES = 50_000_000, 4 * 2**30


@dataclass(frozen=True)
class RowGroup:
    """Some consecutive rows of a file; ``mtime_ns`` tells a replaced file from the one that was opened."""

    path: Path
    mtime_ns: int
    number: int


@dataclass(frozen=True, eq=False)
class ParquetSplit(PackedSplit):
    """One split in Parquet files."""

    name: str
    files: tuple[Path, ...]
    keys: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)  # (N,)
    groups: tuple[RowGroup, ...] = field(repr=False)
    starts: tuple[int, ...] = field(repr=False)  # first row of each group
    rules: ImageRules
    image_column: str

    def packed(self, row: int) -> tuple[dict[str, Any] | None, Path]:
        place = bisect_right(self.starts, row) - 1
        group = self.groups[place]
        return _read_images(group, self.image_column)[row - self.starts[place]].as_py(), group.path


def open_parquet(data: Data, name: str = "parquet", made_by: str = "") -> Corpus:
    """Open a folder of train, val and test in Parquet; images stay in the files.

    Args:
        made_by: the command that makes the files, for messages.

    Raises:
        DataError: a file is missing or damaged, lacks the columns, or its labels have no names.
    """
    root, hint = data.root, f"; type: {made_by}" if made_by else ""
    files = {split: _find_files(root, split) for split in SPLITS}
    if missing := [f"{split}.parquet" for split in SPLITS if not files[split]]:
        what = "no such folder" if not is_folder(root) else f"{' and '.join(missing)} not there"
        raise DataError(f"{root}: {what}; {name} is train.parquet, val.parquet and test.parquet in this folder{hint}")
    own = names = None if data.class_names is None else read_class_names(data.class_names)
    splits = {}
    for split in SPLITS:
        labels: list[NDArray[np.int64]] = []
        groups: list[RowGroup] = []
        sizes: list[int] = []
        for path in files[split]:
            try:
                check_regular(path)
                with pq.ParquetFile(path) as file:
                    facts, schema = file.metadata, file.schema_arrow
                    _check_amounts(path, facts)
                    check_columns(path, schema, data, hint)
                    if own is None:
                        names = parse_class_names(path, schema, data.label_column, names, "train.parquet", hint)
                    labels.append(parse_labels(path, file.read(columns=[data.label_column])[data.label_column]))
                mtime_ns, numbers = path.stat().st_mtime_ns, range(facts.num_row_groups)
                in_groups = [facts.row_group(number).num_rows for number in numbers]
                if sum(in_groups) != len(labels[-1]):
                    raise ValueError(f"{sum(in_groups)} rows by its footer, and {len(labels[-1])} labels")
            except (pa.ArrowException, OSError, ValueError) as error:
                raise DataError(f"{path}: {_unreadable(error)}{hint}") from error
            groups += [RowGroup(path, mtime_ns, number) for number in numbers]
            sizes += in_groups
        starts = tuple(accumulate(sizes, initial=0))[:-1]
        keys = number_keys(split, sum(sizes))
        splits[split] = ParquetSplit(
            split, files[split], keys, np.concatenate(labels), tuple(groups), starts, rules_of(data), data.image_column
        )
    return Corpus(name, names or (), **splits, val_is_test=are_copies(files["val"], files["test"]))


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


def _check_amounts(path: Path, facts: Any) -> None:
    """Refuse a file that unpacks to more than memory should hold: a few bytes can stand for any number of rows."""
    if facts.num_rows > MAX_ROWS:
        raise DataError(f"{path}: {facts.num_rows} rows, but at most {MAX_ROWS} are read")
    largest = max((facts.row_group(i).total_byte_size for i in range(facts.num_row_groups)), default=0)
    if largest > MAX_ROW_GROUP_BYTES:
        raise DataError(
            f"{path}: a row group of {largest} bytes, but at most {MAX_ROW_GROUP_BYTES} are read at once; write it "
            "with smaller row groups"
        )


def _unreadable(error: Exception) -> str:
    """Return why a file could not be read: in the system's words where the system refused it."""
    if is_out_of_memory(error):
        raise BackendError(f"while reading a Parquet file: {describe_lack(error)}") from error
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    return f"not a Parquet file, or a damaged one: {first_line(error)}"


@lru_cache(maxsize=CACHED_ROW_GROUPS)
def _read_images(group: RowGroup, column: str) -> Any:
    """Return one row group's encoded images."""
    path = group.path
    try:
        check_regular(path)
        with pq.ParquetFile(path) as file:
            if path.stat().st_mtime_ns != group.mtime_ns:
                raise DataError(f"{path}: changed while it was in use; run again")
            return file.read_row_group(group.number, columns=[column])[column]
    except (pa.ArrowException, OSError) as error:
        if is_out_of_memory(error):
            raise BackendError(f"out of memory while reading {path}; write it with smaller row groups") from error
        raise DataError(f"{path}: row group {group.number} cannot be read: {first_line(error)}") from error
