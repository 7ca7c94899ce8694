"""What goes wrong with a run's files, as errors that say what to type."""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ltgc_local.errors import ArtefactError

RECIPE = "recipe.json"  # what makes a folder a run directory
#: What the system says when there is no room for a file: on the disk, in the quota, or in the largest file allowed.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What the system says where something else is in a file's place: a folder, a device, a circle of links.
NO_FILE = (errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.EFBIG)
_ADVICE = {
    **dict.fromkeys(NO_ROOM, "make room, then rerun the same command to resume"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        "this user may not write there: change the owner or the mode, then rerun the command; or give another --out",
    ),
    errno.EROFS: "give an --out on a disk that can be written to; a finished run is shown by: ltgc-local report",
}


class Damaged(ArtefactError):
    """A file of a run is not what was written."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: damaged: {problem}{remedy and '; ' + remedy}")
        self.path, self.problem = path, problem


def repair(root: Path) -> str:
    """Return what to type so that what is damaged in a run, and nothing else, is made again."""
    return f"type: ltgc-local repair {shlex.quote(str(root))}"


def redo(root: Path, step: str) -> str:
    """Return what to type so that a step of a run, and what reads it, is done again."""
    return f"type: ltgc-local run {shlex.quote(str(root))} --from {step}"


def redo_file(path: Path) -> str:
    """Return what to type so that the step which wrote a file is done again."""
    root = _run_of(path)
    return redo(root, path.parent.relative_to(root).as_posix()) if root else "do the step again that made it"


def repair_file(path: Path) -> str:
    """Return what to type so that a damaged file of a run is made again."""
    root = _run_of(path)
    return repair(root) if root else "do the step again that made it"


def _run_of(path: Path) -> Path | None:
    return next((parent for parent in path.parents if (parent / RECIPE).is_file()), None)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, if they are not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ArtefactError(f"{folder}: a file is where this folder belongs; move it away") from None
    except OSError as problem:
        raise cannot_write(folder, problem) from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors into ``cannot_write``."""
    try:
        yield
    except OSError as problem:
        raise cannot_write(path, problem) from None


def explain(problem: Exception) -> ArtefactError | None:
    """Return the error for a disk that is full or read-only, or for a missing permission; None if it is neither."""
    if not isinstance(problem, OSError) or problem.filename is None:
        return None
    if problem.errno in (*NO_ROOM, errno.EROFS):
        return cannot_write(problem.filename, problem)
    return cannot_read(problem.filename, problem) if isinstance(problem, PermissionError) else None


def cannot_read(path: Path | str, problem: OSError, mend: str = "") -> ArtefactError:
    """Return the error for an unreadable file; ``mend`` is left out where the file may be fine but for permissions."""
    if isinstance(problem, PermissionError):
        return ArtefactError(f"{path}: no permission ({problem.strerror}); change its owner or its mode")
    return ArtefactError(f"{path}: cannot be read: {problem.strerror}{mend and '; ' + mend}")


def cannot_write(path: Path | str, problem: Exception) -> ArtefactError:
    """Return the error for a failed write, in the system's own words, which the libraries bury in theirs."""
    number = getattr(problem, "errno", None)
    if number is None and (found := re.search(r"(?:os error|errno) (\d+)", str(problem), re.IGNORECASE)):
        number = int(found.group(1))
    words = os.strerror(number) if number is not None else str(problem).strip()
    advice = _ADVICE.get(number or 0, "once that is fixed, rerun the same command to resume")
    return ArtefactError(f"{path}: cannot be written: {words}; what is complete is kept: {advice}")
