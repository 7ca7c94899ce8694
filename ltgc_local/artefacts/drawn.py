"""Drawn images by key, without holding them: a run may have hundreds of thousands, and a step needs a few at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ltgc_local.artefacts.files import DrawnImage, read_images

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
    """Read what shards say of their images, and not the images."""
    import pyarrow.parquet as pq

    columns = ["class_id", "description_id", "round", "description"]
    return [
        DrawnRow(**fields, path=path, row=row)
        for path in paths
        for row, fields in enumerate(pq.read_table(path, columns=columns).to_pylist())
    ]


def read_drawn(rows: Sequence[DrawnRow]) -> list[DrawnImage]:
    """Read the images of ``rows``, in that order; memory holds them and one shard."""
    by_path: dict[Path, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        by_path[row.path].append(place)
    found: dict[int, DrawnImage] = {}
    for path, places in by_path.items():
        found |= zip(places, read_images([path], [rows[place].row for place in places]), strict=True)
    return [found[place] for place in range(len(rows))]
