"""The run directories in a folder, and the order of a table's rows."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.disk import RECIPE, cannot_read, make_folder
from ltgc_local.runs.schemas import TableOrder
from ltgc_local.runs.sealed import read_sealed, write_sealed

MAX_FOLDERS = 20_000  # that are searched for runs

log = logging.getLogger(__name__)


def find_runs(folder: Path, depth: int = 4) -> list[Path]:
    """Return the run directories in a folder: the folder itself, or those within it; unreadable ones are left out.

    They are sorted by name, except that a table's rows are in the order of its table.json.

    Raises:
        ArtefactError: there are too many folders to be a folder of runs.
    """
    top, looked = folder, 0

    def visit(folder: Path, depth: int) -> Iterator[Path]:
        nonlocal looked
        looked += 1
        if looked > MAX_FOLDERS:
            raise ArtefactError(f"{folder}: more than {MAX_FOLDERS} folders to look for runs in; name a folder of runs")
        if os.path.lexists(folder / RECIPE):
            yield folder
            return
        try:
            children = [folder / entry.name for entry in os.scandir(folder) if _may_hold_runs(entry)] if depth else []
        except OSError as problem:
            if folder == top and isinstance(problem, PermissionError):
                raise cannot_read(folder, problem) from None
            return
        rows = _row_order(folder)
        order = {name: number for number, name in enumerate(rows)}
        for child in sorted(children, key=lambda child: (order.get(child.name, len(rows)), child.name)):
            yield from visit(child, depth - 1)

    return list(visit(folder, depth))


def _may_hold_runs(entry: os.DirEntry[str]) -> bool:
    """Return whether to look into a folder: links may lead anywhere, so only links to runs are followed."""
    return entry.is_dir(follow_symlinks=False) or (
        entry.is_symlink() and os.path.lexists(os.path.join(entry.path, RECIPE))
    )


def write_row_order(folder: Path, rows: list[str]) -> None:
    """Note the order of a table's rows in its folder."""
    make_folder(folder)
    write_sealed(folder / "table.json", {"rows": rows})


def _row_order(folder: Path) -> list[str]:
    path = folder / "table.json"
    try:
        order = read_sealed(path, TableOrder, "rows are in the order of their names") if os.path.isfile(path) else None
        return order.rows if order is not None else []
    except ArtefactError as problem:  # only an order
        log.warning("%s", problem)
        return []
