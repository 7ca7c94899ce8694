"""Lists of "relative/path label" lines: space separated, labels from 0, no header (ImageNet-LT's, Places-LT's)."""

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


def read_list(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Return paths and labels (N,) of a list; a path may have blanks, the last word is the label.

    Raises:
        DataError: the list is missing, is empty, or has lines of another form or paths twice: the first few of them
            by line, and how many.
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
    """Return the lines of a text file.

    Raises:
        DataError: it cannot be read, or is no UTF-8 text.
    """
    try:
        return read_text(path, MAX_LIST_BYTES, "utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: not there; data.lists names the folder of the lists") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); copy it again") from error


def check_keys(path: Path, keys: Sequence[str]) -> None:
    """Refuse an empty list, and one with a path twice.

    Raises:
        DataError: naming the list and the first few paths.
    """
    if not keys:
        raise DataError(f"{path}: lists no image")
    if len(set(keys)) < len(keys):
        seen: set[str] = set()
        twice = [key for key in keys if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
        raise DataError(f"{path}: {len(twice)} paths are listed again: {first_few(twice)}")


def check_folders(path: Path, keys: Sequence[str], labels: NDArray[np.int64], folders: Sequence[str | None]) -> None:
    """Refuse a list in which one folder has two labels or one label two folders: its labels are not the benchmark's.

    Args:
        folders: each image's class as its path says, None where it does not.

    Raises:
        DataError: the first such image.
    """
    label_of: dict[str, int] = {}
    folder_of: dict[int, str] = {}
    for key, label, folder in zip(keys, labels.tolist(), folders, strict=True):
        if folder is None:
            continue
        if label_of.setdefault(folder, label) != label or folder_of.setdefault(label, folder) != folder:
            raise DataError(
                f"{path}: {key} has label {label}, but class {label_of[folder]} is {folder}"
                + (f" and class {label} is {folder_of[label]}" if label in folder_of else "")
            )
