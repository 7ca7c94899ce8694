"""Arguments and options that several commands take, and the recipes that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ltgc_local.recipe import Recipes

PATH = click.Path(path_type=Path, readable=False)  # what cannot be read is said by whoever reads it
RECIPE = click.argument("recipe", type=PATH)
RUN = click.argument("run_directory", type=PATH, metavar="RUN")
SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. train.lr=0.02; repeatable."
)
BASE = click.option("--base", type=PATH, help="Recipe that a table's rows build on, in place of its own base.")
PRESET = click.option(
    "--preset", "presets", multiple=True, type=PATH, help="Apply a partial recipe on top; repeatable."
)


def load(recipe: Path, overrides: tuple[str, ...], base: Path | None, presets: tuple[Path, ...]) -> Recipes:
    """Read and check what the command line names."""
    from ltgc_local.recipe import load_recipes

    return load_recipes(recipe, overrides, base=base, presets=presets)
