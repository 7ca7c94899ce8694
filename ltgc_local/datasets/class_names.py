"""Class names: one list a benchmark, shipped beside this module, or a text file of the user's; a name a line."""

from __future__ import annotations

from pathlib import Path

from ltgc_local.datasets.lists import read_lines
from ltgc_local.errors import DataError

FOLDER = Path(__file__).with_name("class_names")


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names of a file, line by line; lines that begin with "# " are comments.

    Raises:
        DataError: it cannot be read or has no name. Duplicates are refused where the corpus is made.
    """
    lines = [line.strip() for line in read_lines(path) if not line.startswith("# ")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: no class names; write one a line, in the order of the class ids")
    return tuple(lines)


def choose_class_names(own: Path | None, shipped: str, num_classes: int) -> tuple[str, ...]:
    """Return the recipe's names if it gives a file, else the benchmark's.

    Raises:
        DataError: the recipe's file has another number of names than the benchmark has classes.
    """
    if own is None:
        return read_class_names(FOLDER / shipped)
    names = read_class_names(own)
    if len(names) != num_classes:
        raise DataError(f"{own}: {len(names)} class names, but there are {num_classes} classes")
    return names
