"""Commands for the recipes that come with the program: ``recipes ls``, ``recipes show`` and ``recipes cp``.

A recipe is copied unchanged. The data, cards and base that come with the program are ``shipped:`` locations, so the
copy works in any folder; what the user must provide is a path relative to the copy.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from pathlib import Path

import click

from ltgc_local.cli import console
from ltgc_local.cli.arguments import PATH
from ltgc_local.errors import RecipeError
from ltgc_local.regular_files import read_text
from ltgc_local.shipped import shipped_folder

MAX_BYTES = 100_000
NAME = click.argument("name")


@click.group()
def recipes() -> None:
    """List, show and copy the recipes that come with ltgc-local.

    Example: ltgc-local recipes cp quickstart .
    """


@recipes.command()
def ls() -> None:
    """List the recipes by name.

    Whole recipes come first, then tables (controls/, paper/) and presets, which are applied on top of a recipe.

    Example: ltgc-local recipes ls
    """
    found = shipped_recipes()
    width = max(map(len, found))
    for name, path in found.items():
        console.write(f"{name:{width}}  {_purpose(read_text(path, MAX_BYTES))}")


@recipes.command()
@NAME
def show(name: str) -> None:
    """Print a recipe.

    Example: ltgc-local recipes show paper/table5
    """
    console.write(read_text(_find(name), MAX_BYTES), end="")


@recipes.command()
@NAME
@click.argument("destination", type=PATH, default=Path(), metavar="[DEST]")
def cp(name: str, destination: Path) -> None:
    """Copy a recipe, to run or change it.

    DEST is a folder, the current one by default, or a file name that ends in .yaml. Nothing is overwritten.

    Example: ltgc-local recipes cp quickstart my_recipe.yaml
    """
    source = _find(name)
    target = destination if destination.suffix == ".yaml" else destination / source.name
    if os.path.lexists(target):
        raise RecipeError(f"{target}: exists already, and is not overwritten; give another DEST")
    console.write_file(target, read_text(source, MAX_BYTES))
    copy = shlex.quote(str(target))
    use = f"RECIPE --preset {copy}" if source.parent.name == "presets" else copy
    console.write(f"{target}: copied; next, type:\n  ltgc-local validate {use}\n  ltgc-local run {use}")


def shipped_recipes() -> dict[str, Path]:
    """Return every shipped recipe by its name, such as paper/table5, those in the top folder first."""
    folder = shipped_folder() / "recipes"
    names = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    return dict(sorted(names.items(), key=lambda item: ("/" in item[0], item[0])))


def _find(name: str) -> Path:
    found, asked = shipped_recipes(), name.removesuffix(".yaml")
    if asked in found:
        return found[asked]
    close = difflib.get_close_matches(asked, found, n=1)
    hint = f"did you mean '{close[0]}'?" if close else "type: ltgc-local recipes ls"
    raise RecipeError(f"no recipe '{name}' comes with ltgc-local; {hint}")


def _purpose(text: str) -> str:
    """Return the first sentence of the header's What, on one line."""
    found = re.match(r"# What +(.*(?:\n#  +.*)*)", text)
    return " ".join(found[1].replace("\n#", " ").split()).partition(". ")[0].rstrip(".") if found else ""
