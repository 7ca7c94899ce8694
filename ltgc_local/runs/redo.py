"""What to type so that something damaged in a run is made again."""

from __future__ import annotations

import shlex
from pathlib import Path

RECIPE = "recipe.json"  # what makes a folder a run directory


def redo(root: Path, step: str) -> str:
    """Return what to type so that a step of a run, and what reads it, is done again."""
    return f"type: ltgc-local run {shlex.quote(str(root))} --from {step}"


def redo_file(path: Path) -> str:
    """Return what to type so that a file of a step is made again."""
    root = next((parent for parent in path.parents if (parent / RECIPE).is_file()), None)
    if root is None:
        return "do the step again that made it"
    return redo(root, path.parent.relative_to(root).as_posix())
