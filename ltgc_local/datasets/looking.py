"""Look at folders of others: what is there, what cannot be looked at, and names that no program could print.

pathlib's ``glob`` and ``os.walk`` pass over folders that may not be read, and ``is_file`` raises where its folder may
not be: here each is a DataError that says so.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ltgc_local.errors import DataError

_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes: Linux's limit of a name, and its 4096 of a path less the root's part
_SHOWN = 80


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; raise DataError where that may not be known."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_there(path: Path) -> bool:
    """Return whether there is anything but a folder; what is no regular file is refused when it is opened.

    Raises:
        DataError: it may not be known.
    """
    mode = _mode(path)
    return mode is not None and not stat.S_ISDIR(mode)


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder, in order.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error


def check_paths(where: Path | str, paths: Sequence[str]) -> None:
    """Refuse paths of a list, or names in a folder, that no program could open or print.

    Raises:
        DataError: the first of them with what is wrong, and how many there are.
    """
    wrong = [(path, problem) for path in paths if (problem := _problem_of(path))]
    if wrong:
        path, problem = wrong[0]
        shown = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…"
        many = f" ({len(wrong)} such names)" if len(wrong) > 1 else ""
        raise DataError(f"{where}: {shown!r} {problem}; rename it{many}")


def _problem_of(path: str) -> str:
    if "\0" in path:
        return "has a zero byte in its name"
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "is a name that is not UTF-8"
    if len(encoded) > _LONGEST_PATH or any(len(part) > _LONGEST_NAME for part in encoded.split(b"/")):
        return f"is longer than names of files can be ({_LONGEST_NAME} bytes a part, {_LONGEST_PATH} in all)"
    return ""


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be looked at: {error.strerror}") from error
