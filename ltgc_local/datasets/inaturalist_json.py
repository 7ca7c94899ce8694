"""iNaturalist's annotation files: COCO-like JSON with images, annotations and categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltgc_local.datasets.lists import check_keys
from ltgc_local.errors import DataError
from ltgc_local.regular_files import MAX_LIST_BYTES, read_json


def read_annotations(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Return file names and category ids (N,), in the order of the images.

    Raises:
        DataError: it cannot be read, or an image has no category.
    """
    value = _read_json(path)
    try:
        label_of = {each["image_id"]: int(each["category_id"]) for each in value["annotations"]}
        images = [(str(image["file_name"]), label_of.get(image["id"])) for image in value["images"]]
        labels = np.array([-1 if label is None else label for _, label in images], dtype=np.int64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not iNaturalist's annotations (images, annotations with category_id)") from error
    without = [name for name, label in images if label is None]
    if without:
        raise DataError(f"{path}: {len(without)} images have no category, the first is {without[0]}")
    keys = [name for name, _ in images]
    check_keys(path, keys)
    return keys, labels


def read_category_names(path: Path) -> tuple[str, ...]:
    """Return the names by category id, from categories.json or from the categories of train2018.json.

    Raises:
        DataError: it cannot be read, ids have gaps, or names are the numbers that hid them in the competition.
    """
    value = _read_json(path)
    try:
        rows = value if isinstance(value, list) else value["categories"]
        names = {int(row["id"]): str(row["name"]) for row in rows}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: no iNaturalist categories (id, name)") from error
    if not names or sorted(names) != list(range(len(names))):
        raise DataError(f"{path}: category ids are not 0 to {len(names) - 1}")
    if all(name.isdigit() for name in names.values()):
        raise DataError(
            f"{path}: its names are numbers, as the competition hid them; put the published categories.json beside it"
        )
    return tuple(names[class_id] for class_id in range(len(names)))


def _read_json(path: Path) -> Any:
    try:
        return read_json(path, MAX_LIST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged JSON: {error}; copy it again") from error
