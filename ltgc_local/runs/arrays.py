"""The reading of every Parquet and safetensors file of a run; what is wrong with one is an ArtefactError."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltgc_local.errors import ArtefactError
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.regular_files import check_regular
from ltgc_local.runs.disk import redo_file

if TYPE_CHECKING:
    import numpy as np
    import torch

#: Of one file: a shard has some hundred images. A file of a few bytes can ask for any number of either.
MAX_ROWS, MAX_UNPACKED_BYTES = 50_000_000, 16 * 2**30


@contextmanager
def _reading(path: Path, library_error: Any) -> Iterator[None]:
    """Check that a library may open the file, and turn its errors into one that names the file and the remedy."""
    try:
        check_regular(path)
        yield
    except (library_error, OSError, ValueError, TypeError, RecursionError) as problem:
        if is_out_of_memory(problem):
            raise
        words = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ArtefactError(f"{path}: damaged ({words}); {redo_file(path)}") from problem


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> Any:
    """Read a Parquet file, or some of its columns, as a pyarrow table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reading(path, pa.ArrowException), pq.ParquetFile(path) as file:  # a quarter of the time of pq.read_table
        facts = file.metadata
        unpacked = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
        if facts.num_rows > MAX_ROWS or unpacked > MAX_UNPACKED_BYTES:
            raise ValueError(f"{facts.num_rows} rows of {unpacked} bytes, more than any step writes into one file")
        table = file.read(columns=columns, use_threads=False)
        table.validate()
    missing = [name for name in columns or () if name not in table.column_names]
    if missing:
        raise ArtefactError(f"{path}: has no column '{missing[0]}'; {redo_file(path)}")
    return table


def count_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file, by its metadata."""
    return len(read_parquet(path, []))


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Read the columns of a Parquet file."""
    table = read_parquet(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def read_tensors(path: Path, facts: str | None = None) -> tuple[dict[str, torch.Tensor], Any]:
    """Read a safetensors file, and the JSON value ``facts`` of its metadata, which it must have if asked for."""
    return _read_safetensors(path, "pt", facts)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file as numpy arrays."""
    found: dict[str, np.ndarray] = _read_safetensors(path, "np", None)[0]
    return found


def _read_safetensors(path: Path, framework: str, facts: str | None) -> tuple[dict[str, Any], Any]:
    from safetensors import SafetensorError, safe_open

    with _reading(path, SafetensorError), safe_open(path, framework=framework) as file:
        found = None if facts is None else json.loads((file.metadata() or {}).get(facts, "null"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if facts is not None and found is None:
        raise ArtefactError(f"{path}: not this kind of file: its metadata has no '{facts}'; {redo_file(path)}")
    return tensors, found
