"""Splits whose images are packed in files: the columns of images and labels as ``datasets`` writes them.

Images are a struct of encoded ``bytes`` and ``path`` (``datasets.Image``); labels are integers whose class names are in
the schema's "huggingface" metadata (``datasets.ClassLabel``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ltgc_local.datasets.base import Split, decode_image
from ltgc_local.errors import DataError
from ltgc_local.image_decoding import MAX_ENCODED_BYTES, Decoded, ImageRules
from ltgc_local.recipe.inputs import Data
from ltgc_local.regular_files import digest_file, parse_json


class PackedSplit(Split):
    """Base of a split whose images are packed in files."""

    rules: ImageRules

    @abstractmethod
    def packed(self, row: int) -> tuple[dict[str, Any] | None, Path]:
        """Return a row of the column of images, and its file or folder for messages."""

    def read(self, row: int) -> Decoded:
        packed, path = self.packed(row)
        content, where = packed and packed["bytes"], f"{path}: image {self.keys[row]}"
        if not content:  # a path would lead out of the data
            raise DataError(
                f"{where} has no bytes in the file; write it with embedded images, as Dataset.save_to_disk does"
            )
        if len(content) > MAX_ENCODED_BYTES:
            raise DataError(f"{where} has {len(content)} bytes, but at most {MAX_ENCODED_BYTES} are read")
        return decode_image(content, self.rules, where)


def check_columns(where: Path, schema: Any, data: Data, hint: str = "") -> None:
    """Refuse a pyarrow schema that lacks a column, or has it as another type; ``hint`` says what to do."""
    for column, wanted, change in (
        (data.image_column, "a struct of 'bytes' and 'path'", "cast_column('{}', Image())"),
        (data.label_column, "whole numbers", "class_encode_column('{}')"),
    ):
        if column not in schema.names:
            hint = hint or ": name them by data.image_column and data.label_column"
            raise DataError(
                f"{where}: no column '{column}' ({wanted}); its columns are {', '.join(schema.names)}{hint}"
            )
        kind = schema.field(column).type
        if not (pa.types.is_integer(kind) if column == data.label_column else _is_image(kind)):
            raise DataError(
                f"{where}: column '{column}' is {kind}, expected {wanted}; type dataset.{change.format(column)}, "
                "and save it"
            )


def _is_image(kind: Any) -> bool:
    return bool(pa.types.is_struct(kind)) and "bytes" in {kind.field(i).name for i in range(kind.num_fields)}


def parse_class_names(
    where: Path, schema: Any, column: str, expected: tuple[str, ...] | None, first: str, hint: str = ""
) -> tuple[str, ...]:
    """Return the class names that a schema has for its column of labels.

    Args:
        expected: the names in ``first``, the file or split that was read first; others are refused.
    """
    try:
        found = parse_json(schema.metadata[b"huggingface"].decode("utf-8"))["info"]["features"][column]["names"]
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise TypeError
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: no class names for '{column}'; write the file with datasets' ClassLabel, "
            "which puts them in the schema's 'huggingface' metadata"
        ) from error
    if expected is not None and expected != tuple(found):
        difference = f"{len(found)} names, expected {len(expected)}"
        if len(found) == len(expected):
            class_id = next(i for i, name in enumerate(found) if name != expected[i])
            difference = f"class {class_id} is '{found[class_id]}', expected '{expected[class_id]}'"
        raise DataError(f"{where}: its class names are not {first}'s: {difference}{hint}")
    return tuple(found)


def parse_labels(where: Path, column: Any) -> NDArray[np.int64]:
    """Return a pyarrow column of labels as class ids (N,); all must be there."""
    if column.null_count:
        raise DataError(f"{where}: {column.null_count} of {len(column)} labels are missing")
    return np.array(column.to_numpy(), dtype=np.int64)


def number_keys(split: str, number: int) -> tuple[str, ...]:
    """Return the keys of a split whose images have no names: "train/00042"."""
    width = max(5, len(str(number)))
    return tuple(f"{split}/{row:0{width}d}" for row in range(number))


def are_copies(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Return whether two splits are the same bytes, file by file; contents are read only where all sizes agree."""
    if [path.stat().st_size for path in files] != [path.stat().st_size for path in others]:
        return False
    return all(digest_file(one) == digest_file(other) for one, other in zip(files, others, strict=True))


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
