"""What is in folders that others made; what cannot be looked at, or has a name no program could print, is a DataError.

pathlib's ``glob`` and ``os.walk`` pass over folders that cannot be read, and ``is_file`` raises where its folder cannot
be.
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
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_there(path: Path) -> bool:
    """Return whether anything but a folder is there; one that is not a regular file is refused when it is opened."""
    mode = _mode(path)
    return mode is not None and not stat.S_ISDIR(mode)


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error


def check_paths(where: Path | str, paths: Sequence[str]) -> None:
    """Refuse listed paths, or names in a folder, that no program could open or print."""
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
        return f"is longer than names of files can be ({_LONGEST_NAME} bytes per part, {_LONGEST_PATH} in all)"
    return ""


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be looked at: {error.strerror}") from error
