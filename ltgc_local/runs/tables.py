"""Columns as Parquet: what a model said of every test image, and the reading of every Parquet file of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltgc_local.errors import ArtefactError
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.regular_files import check_regular
from ltgc_local.runs.redo import redo_file

#: Of one file: a shard has some hundred images. A file of a few bytes can ask for any number of either.
MAX_ROWS, MAX_UNPACKED_BYTES = 50_000_000, 16 * 2**30


@dataclass(frozen=True)
class Table:
    """Named columns (N,) of one file."""

    kind: str
    columns: Mapping[str, Any]
    suffix: str = "parquet"

    def write(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({name: pa.array(column) for name, column in self.columns.items()}), path)


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Read the columns of one file.

    Raises:
        ArtefactError: as ``read_parquet``.
    """
    table = read_parquet(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> Any:
    """Read a Parquet file of a run, or some of its columns, as a pyarrow table.

    Raises:
        ArtefactError: it is damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        check_regular(path)
        facts = pq.read_metadata(path)
        unpacked = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
        if facts.num_rows > MAX_ROWS or unpacked > MAX_UNPACKED_BYTES:
            raise ValueError(f"{facts.num_rows} rows of {unpacked} bytes, more than any step writes into one file")
        table = pq.read_table(path, columns=columns, partitioning=None)
        table.validate()
    except (pa.ArrowException, OSError, ValueError, RecursionError) as problem:
        if is_out_of_memory(problem):
            raise
        words = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ArtefactError(f"{path}: damaged ({words}); {redo_file(path)}") from problem
    missing = [name for name in columns or () if name not in table.column_names]
    if missing:
        raise ArtefactError(f"{path}: has no column '{missing[0]}'; {redo_file(path)}")
    return table
