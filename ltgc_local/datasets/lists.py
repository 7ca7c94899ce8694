"""Lists of images and of class names.

Images: "relative/path label" lines, space-separated, labels from 0, no header (ImageNet-LT's, Places-LT's).
Class names: one per line in the order of the class ids; the benchmarks' are shipped in ``class_names/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltgc_local.datasets.base import first_few
from ltgc_local.errors import DataError
from ltgc_local.regular_files import MAX_LIST_BYTES, read_text

SPLITS = ("train", "val", "test")
#: What ``datasets`` and others call a split's folder or files.
SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}
FOLDER = Path(__file__).with_name("class_names")

Listed = tuple[list[str], NDArray[np.int64]]  # paths and their labels (N,)


def read_list(path: Path) -> Listed:
    """Return paths and labels (N,) of a list; a path may contain blanks, the last word is the label.

    Raises:
        DataError: the list is missing, is empty, has lines of another form or lists a path twice.
    """
    keys, labels, wrong = [], [], []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        key, _, label = line.strip().rpartition(" ")
        if not key.strip() or not (label.isascii() and label.isdigit() and len(label) < 10):
            wrong.append(f"line {number} is {line[:60]!r}")
            continue
        keys.append(key.strip().removeprefix("./"))
        labels.append(int(label))
    if wrong:
        raise DataError(f"{path}: {len(wrong)} lines are not 'relative/path label': {first_few(wrong)}")
    check_keys(path, keys)
    return keys, np.array(labels, dtype=np.int64)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file."""
    try:
        return read_text(path, MAX_LIST_BYTES, "utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: not there; data.lists names the folder of the lists") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); copy it again") from error


def check_keys(path: Path, keys: Sequence[str]) -> None:
    """Refuse an empty list, and one that lists a path twice."""
    if not keys:
        raise DataError(f"{path}: lists no image")
    if len(set(keys)) < len(keys):
        seen: set[str] = set()
        twice = [key for key in keys if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
        raise DataError(f"{path}: {len(twice)} paths are listed again: {first_few(twice)}")


def check_folders(path: Path, listed: Listed, folders: Sequence[str | None]) -> None:
    """Refuse a list where one folder has two labels or one label two folders: its labels are not the benchmark's.

    Args:
        folders: each image's class according to its path; None where the path does not say.
    """
    label_of: dict[str, int] = {}
    folder_of: dict[int, str] = {}
    for key, label, folder in zip(listed[0], listed[1].tolist(), folders, strict=True):
        if folder is None:
            continue
        if label_of.setdefault(folder, label) != label or folder_of.setdefault(label, folder) != folder:
            raise DataError(
                f"{path}: {key} has label {label}, but class {label_of[folder]} is {folder}"
                + (f" and class {label} is {folder_of[label]}" if label in folder_of else "")
            )


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names in a file, line by line; lines that begin with "# " are comments."""
    lines = [line.strip() for line in read_lines(path) if not line.startswith("# ")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: no class names; write one per line, in the order of the class ids")
    return tuple(lines)


def choose_class_names(own: Path | None, shipped: str, num_classes: int) -> tuple[str, ...]:
    """Return the names in the recipe's file if it gives one, which must be as many, else the benchmark's."""
    if own is None:
        return read_class_names(FOLDER / shipped)
    names = read_class_names(own)
    if len(names) != num_classes:
        raise DataError(f"{own}: {len(names)} class names, but there are {num_classes} classes")
    return names
