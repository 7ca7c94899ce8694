"""Small Parquet corpora, laid out as ``datasets`` writes them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

WriteSplit = Callable[..., Path]


def encode(value: int, mode: str = "L") -> bytes:
    """Return a PNG of 4x4 pixels of one value."""
    buffer = io.BytesIO()
    Image.new(mode, (4, 4), value if mode == "L" else (value,) * len(mode)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def write_split(tmp_path: Path) -> WriteSplit:
    """A function that writes <split>.parquet in ``tmp_path`` and returns its path."""

    def write(
        split: str,
        labels: Sequence[int | None] = (0, 1, 1),
        names: Any = ("bag", "coat"),
        images: Sequence[bytes | None] | None = None,
        row_group_size: int | None = None,
    ) -> Path:
        images = images if images is not None else [encode(row) for row in range(len(labels))]
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = pa.table(
            {
                "image": pa.array(
                    [{"bytes": image, "path": None} for image in images],
                    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
                ),
                "label": pa.array(labels, pa.int64()),
            }
        )
        metadata = {} if names is None else {"huggingface": json.dumps({"info": {"features": features}})}
        path = tmp_path / f"{split}.parquet"
        pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=row_group_size)
        return path

    return write


@pytest.fixture
def root(tmp_path: Path, write_split: WriteSplit) -> Path:
    """A folder with the three splits, three images each of classes bag (1) and coat (2)."""
    for split in ("train", "val", "test"):
        write_split(split)
    return tmp_path
