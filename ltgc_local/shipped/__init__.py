"""What comes with the program: recipes, presets, model cards, the miniatures and the quickstart's data.

A wheel has them in this folder, where setup.py puts them; a clone has them in its own top-level folders. A path in a
recipe or on the command line that begins with ``shipped:`` starts there, so a recipe works wherever it is copied to.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath

PREFIX = "shipped:"


def shipped_folder() -> Path:
    """Return the folder that holds recipes/, model_cards/ and data/."""
    here = Path(os.path.realpath(__file__)).parent
    return here if (here / "recipes").is_dir() else here.parents[1]


def resolve_shipped(path: Path | str) -> str:
    """Return the path that is meant: after ``shipped:`` one in that folder, else the path as it is.

    A path that would lead out of the folder is no location; ``./shipped:x`` names a file that is really called so.
    """
    text = str(path)
    inside = PurePath(text.removeprefix(PREFIX))
    if not text.startswith(PREFIX) or inside.is_absolute() or ".." in inside.parts:
        return text
    return str(shipped_folder() / inside)
