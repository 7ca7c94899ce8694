"""The kinds of files that a step writes. Each is written under a temporary name and renamed when it is complete."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from safetensors import SafetensorError

from ltgc_local.errors import ArtefactError
from ltgc_local.records import Record
from ltgc_local.runs.arrays import read_parquet
from ltgc_local.runs.disk import cannot_write, redo_file

if TYPE_CHECKING:
    import torch
    from PIL import Image

MAX_GENERATED_PIXELS = 4096 * 4096  # the largest that any recipe generates


class Artefact(Protocol):
    """Content of one file of a chunk: ``<kind>-<chunk>.<suffix>``, or ``<kind>.<suffix>``."""

    @property
    def kind(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    def write(self, path: Path) -> None: ...


@dataclass(frozen=True)
class Lines:
    """Records as JSON lines; they may be made while they are written."""

    kind: str
    records: Iterable[Record]
    suffix: str = "jsonl"

    def write(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(record.to_json() + "\n" for record in self.records)


@dataclass(frozen=True)
class Json:
    """One JSON value, indented for people."""

    kind: str
    value: Any
    suffix: str = "json"

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Text:
    """A text, such as a page for people."""

    kind: str
    text: str
    suffix: str = "html"

    def write(self, path: Path) -> None:
        path.write_text(self.text, encoding="utf-8")


@dataclass(frozen=True)
class Tensors:
    """Named tensors as safetensors, with texts as the file's metadata."""

    kind: str
    tensors: Mapping[str, torch.Tensor]
    suffix: str = "safetensors"
    metadata: Mapping[str, str] | None = None

    def write(self, path: Path) -> None:
        from safetensors.torch import save_file

        metadata = dict(self.metadata) if self.metadata else None
        save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, path, metadata)


@dataclass(frozen=True)
class Table:
    """Named columns (N,) as Parquet."""

    kind: str
    columns: Mapping[str, Any]
    suffix: str = "parquet"

    def write(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({name: pa.array(column) for name, column in self.columns.items()}), path)


@dataclass(frozen=True)
class GeneratedImage:
    """One generated image with its lineage: a row of an image shard.

    ``score`` is S, the cosine of image and C_y, whatever the scorer; NaN until CLIP has seen the image.
    """

    image: bytes  # PNG
    class_id: int
    class_name: str
    description_id: int
    description: str
    round: int
    seed: int
    score: float = float("nan")
    init_image: str = ""  # key of the training image that it started from (img2img); empty: from noise alone

    @property
    def key(self) -> tuple[int, int, int]:
        return self.class_id, self.description_id, self.round


@dataclass(frozen=True)
class Images:
    """Generated images as Parquet that ``datasets`` opens with the image column decoded."""

    kind: str
    rows: Sequence[GeneratedImage]
    suffix: str = "parquet"

    def write(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = image_schema()
        columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in self.rows] for name in schema.names[1:]}
        names = [f"{row.class_id}_{row.description_id}_{row.round}.png" for row in self.rows]
        columns["image"] = [{"bytes": row.image, "path": name} for row, name in zip(self.rows, names, strict=True)]
        pq.write_table(pa.table(columns, schema=schema), path)


@dataclass(frozen=True)
class ImageTable:
    """Generated images as ``Images``, from a pyarrow table of its columns: no object is made of an image."""

    kind: str
    table: Any
    suffix: str = "parquet"

    def write(self, path: Path) -> None:
        import pyarrow.parquet as pq

        pq.write_table(self.table.combine_chunks(), path)


@cache  # and not at import: benchmarks run where there is no pyarrow
def image_schema() -> Any:
    """Return the schema of an image shard."""
    import pyarrow as pa

    kinds, features = _columns()
    return pa.schema(kinds).with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _columns() -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    import pyarrow as pa

    columns = [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("class_id", pa.int64()),
        ("class_name", pa.string()),
        ("description_id", pa.int64()),
        ("description", pa.string()),
        ("round", pa.int64()),
        ("seed", pa.int64()),
        ("score", pa.float64()),
        ("init_image", pa.string()),
    ]
    features = {name: {"dtype": str(kind).replace("double", "float64"), "_type": "Value"} for name, kind in columns}
    return columns, features | {"image": {"_type": "Image"}}


def read_images(paths: Iterable[Path], rows: Sequence[int] | None = None) -> list[GeneratedImage]:
    """Read image shards, in the order of ``paths``: all rows of each, or those at ``rows``."""
    columns = [name for name, _ in _columns()[0]]
    found: list[dict[str, Any]] = []
    for path in paths:
        table = read_parquet(path, columns)
        if rows is not None and not all(0 <= row < table.num_rows for row in rows):
            raise ArtefactError(f"{path}: has {table.num_rows} images, and others are asked for; {redo_file(path)}")
        found += (table if rows is None else table.take(rows)).to_pylist()
    return [GeneratedImage(**(row | {"image": row["image"]["bytes"]})) for row in found]


def encode_png(image: Image.Image) -> bytes:
    """Encode losslessly; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def decode_png(data: bytes) -> Image.Image:
    """Decode a generated image, in mode L or RGB; an ArtefactError says that it is damaged or not PNG."""
    from ltgc_local.image_decoding import ImageRules, UndecodableError, decode

    try:
        return decode(data, ImageRules(MAX_GENERATED_PIXELS, "white"), "a generated image", ("PNG",)).image
    except UndecodableError as problem:
        raise ArtefactError(f"a generated image does not decode: {problem}; do its step again with --from") from problem


def write_atomically(artefact: Artefact, path: Path) -> None:
    """Write under a temporary name and rename, so that the file at ``path`` is always complete.

    Raises:
        ArtefactError: the disk is full, or the folder cannot be written to; nothing is left of the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        artefact.write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as problem:  # safetensors wraps the system's error in its own
        raise cannot_write(path, problem) from problem
    finally:
        with suppress(OSError):  # on a read-only disk there is nothing to remove, and trying raises as well
            temporary.unlink(missing_ok=True)
