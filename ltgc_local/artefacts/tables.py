"""Columns of numbers and names as Parquet: what a model said of every test image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


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
    """Read the columns of one file."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}
