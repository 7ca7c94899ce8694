"""The columns of images and labels, as ``datasets`` writes them into Parquet and Arrow files.

Images are a struct of encoded ``bytes`` and ``path`` (``datasets.Image``); labels are whole numbers, whose class names
are in the schema's "huggingface" metadata (``datasets.ClassLabel``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from ltgc_local.datasets.decode import decode_image, decode_several
from ltgc_local.errors import BackendError, DataError
from ltgc_local.image_decoding import MAX_ENCODED_BYTES, Decoded, ImageRules
from ltgc_local.out_of_memory import describe_lack, is_out_of_memory
from ltgc_local.regular_files import digest_file, parse_json

NAME_COLUMNS = ": name them by data.image_column and data.label_column"


class PackedSplit(ABC):
    """Base of a split whose images are packed in files, several to one; ``packed`` gives one row."""

    keys: tuple[str, ...]
    rules: ImageRules

    @abstractmethod
    def packed(self, row: int) -> tuple[dict[str, Any] | None, Path]:
        """Return a row of the column of images, and what names its place to a person."""

    def __len__(self) -> int:
        return len(self.keys)

    def decoded(self, row: int) -> Decoded:
        """Return one image in mode L or RGB, upright, with what was in the file and is not in it.

        Raises:
            DataError: it does not decode; names its key and the place.
            IndexError: there is no such row.
        """
        if not 0 <= row < len(self.keys):
            raise IndexError(f"no row {row}; there are {len(self.keys)}")
        packed, where = self.packed(row)
        return decode_packed(packed, self.rules, f"{where}: image {self.keys[row]}")

    def image(self, row: int) -> Image.Image:
        """Return one image in mode L or RGB, upright; raises as ``decoded``."""
        return self.decoded(row).image

    def images(self, rows: Iterable[int]) -> list[Image.Image]:
        """Return several images, in the order of ``rows``."""
        return decode_several(rows, self.image)

    def missing(self) -> tuple[list[str], list[str]]:
        return [], []


def check_columns(where: Path, schema: Any, image_column: str, label_column: str, hint: str = NAME_COLUMNS) -> None:
    """Refuse a pyarrow schema that lacks a column, or has it as another type.

    Raises:
        DataError: naming the column, and what to type.
    """
    for column, wanted in ((image_column, "a struct of 'bytes' and 'path'"), (label_column, "whole numbers")):
        if column not in schema.names:
            raise DataError(
                f"{where}: no column '{column}' ({wanted}); its columns are {', '.join(schema.names)}{hint}"
            )
        kind = schema.field(column).type
        if not (pa.types.is_integer(kind) if column == label_column else _is_image(kind)):
            change = (
                f"class_encode_column('{column}')" if column == label_column else f"cast_column('{column}', Image())"
            )
            raise DataError(
                f"{where}: column '{column}' is {kind}, expected {wanted}; type dataset.{change}, and save it"
            )


def _is_image(kind: Any) -> bool:
    return bool(pa.types.is_struct(kind)) and "bytes" in {kind.field(i).name for i in range(kind.num_fields)}


def parse_class_names(where: Path, schema: Any, column: str) -> tuple[str, ...]:
    """Return the class names that a schema has of its column of labels.

    Raises:
        DataError: there are none.
    """
    try:
        names = parse_json(schema.metadata[b"huggingface"].decode("utf-8"))["info"]["features"][column]["names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: no class names for '{column}'; write the file with datasets' ClassLabel, "
            "which puts them in the schema's 'huggingface' metadata"
        ) from error
    return tuple(names)


def check_same_names(where: Path, expected: Sequence[str], found: Sequence[str], first: str, hint: str = "") -> None:
    """Refuse a split whose class names are not those of ``first``, the split that was read first.

    Raises:
        DataError: naming the first class that differs.
    """
    if found == expected:
        return
    if len(expected) != len(found):
        difference = f"{len(found)} names, expected {len(expected)}"
    else:
        class_id = next(i for i, (want, name) in enumerate(zip(expected, found, strict=True)) if want != name)
        difference = f"class {class_id} is '{found[class_id]}', expected '{expected[class_id]}'"
    raise DataError(f"{where}: its class names are not {first}'s: {difference}{hint}")


def parse_labels(where: Path, column: Any) -> NDArray[np.int64]:
    """Return a pyarrow column of labels as class ids (N,).

    Raises:
        DataError: some are missing.
    """
    if column.null_count:
        raise DataError(f"{where}: {column.null_count} of {len(column)} labels are missing")
    return np.array(column.to_numpy(), dtype=np.int64)


def number_keys(split: str, number: int) -> tuple[str, ...]:
    """Return the keys of a split whose images have no names: "train/00042"."""
    width = max(5, len(str(number)))
    return tuple(f"{split}/{row:0{width}d}" for row in range(number))


def decode_packed(packed: dict[str, Any] | None, rules: ImageRules, where: str) -> Decoded:
    """Decode one row of a column of images.

    Raises:
        DataError: it has no bytes (a path would lead out of the data), or they do not decode; ``where`` names it.
    """
    if not packed or not packed["bytes"]:
        raise DataError(
            f"{where} has no bytes in the file; write it with embedded images, as Dataset.save_to_disk does"
        )
    if len(packed["bytes"]) > MAX_ENCODED_BYTES:
        raise DataError(f"{where} has {len(packed['bytes'])} bytes, where at most {MAX_ENCODED_BYTES} are read")
    return decode_image(packed["bytes"], rules, where)


def are_copies(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Return whether two splits are the same bytes, file by file; contents are read only where all sizes agree."""
    if [path.stat().st_size for path in files] != [path.stat().st_size for path in others]:
        return False
    return all(digest_file(one) == digest_file(other) for one, other in zip(files, others, strict=True))


def unreadable(error: Exception, kind: str) -> str:
    """Return the words for a file that a library could not read: the system's where the system refused it.

    Raises:
        BackendError: there is not enough memory.
    """
    if is_out_of_memory(error):
        raise BackendError(f"while reading {kind}: {describe_lack(error)}") from error
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    return f"not {kind}, or a damaged one: {first_line(error)}"


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
