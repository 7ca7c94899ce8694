"""Drawn images by key, without holding them: a run may have hundreds of thousands, the report shows a few."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

Key = tuple[int, int, int]  # class_id, description_id, round


@dataclass(frozen=True)
class DrawnRow:
    """What an image shard says of one image, and where the image itself is."""

    class_id: int
    description_id: int
    round: int
    description: str
    path: Path
    row: int

    @property
    def key(self) -> Key:
        return self.class_id, self.description_id, self.round


def read_rows(paths: Iterable[Path]) -> list[DrawnRow]:
    """Read every column of the shards but the images."""
    import pyarrow.parquet as pq

    columns = ["class_id", "description_id", "round", "description"]
    return [
        DrawnRow(**fields, path=path, row=row)
        for path in paths
        for row, fields in enumerate(pq.read_table(path, columns=columns).to_pylist())
    ]


def read_pngs(rows: Sequence[DrawnRow]) -> dict[Key, bytes]:
    """Read the images of ``rows`` as PNG bytes, shard by shard."""
    import pyarrow.parquet as pq

    by_path: dict[Path, list[DrawnRow]] = defaultdict(list)
    for row in rows:
        by_path[row.path].append(row)
    found: dict[Key, bytes] = {}
    for path, wanted in by_path.items():
        images = pq.read_table(path, columns=["image"])["image"].take([row.row for row in wanted])
        found |= {row.key: image["bytes"] for row, image in zip(wanted, images.to_pylist(), strict=True)}
    return found
