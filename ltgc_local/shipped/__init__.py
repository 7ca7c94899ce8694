"""What comes with the program: recipes, presets, model cards, the miniatures and the quickstart's data.

In a wheel they are in this folder, where setup.py puts them; in a clone they are in the top-level folders. A path in a
recipe or on the command line that begins with ``shipped:`` starts there, so a copied recipe works anywhere.
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
    """Return the path in that folder for a path after ``shipped:``, otherwise the path unchanged.

    A path that would lead out of the folder stays as it is; ``./shipped:x`` names a file that is really called that.
    """
    text = str(path)
    inside = PurePath(text.removeprefix(PREFIX))
    if not text.startswith(PREFIX) or inside.is_absolute() or ".." in inside.parts:
        return text
    return str(shipped_folder() / inside)
