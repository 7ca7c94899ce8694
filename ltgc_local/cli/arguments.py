"""Arguments and options that several commands take, and the recipes that they name."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ltgc_local.errors import RecipeError

if TYPE_CHECKING:
    from ltgc_local.recipe import Recipe, Recipes

PATH = click.Path(path_type=Path, readable=False)  # whoever reads it reports that it cannot be read
RUN = click.argument("run_directory", type=PATH, metavar="RUN")
_RECIPE = (
    click.argument("recipe", type=PATH),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. seed=1; repeatable."
    ),
    click.option("--base", type=PATH, help="Recipe that a table's rows build on, in place of its own base."),
    click.option("--preset", "presets", multiple=True, type=PATH, help="Apply a partial recipe on top; repeatable."),
)


@dataclass(frozen=True)
class RecipeArguments:
    """A recipe and the options that change it, as typed."""

    recipe: Path
    overrides: tuple[str, ...]
    base: Path | None
    presets: tuple[Path, ...]

    def load(self) -> Recipes:
        """Read and check the recipe, or the rows of the table."""
        import ltgc_local.methods.registry  # noqa: F401 (a recipe may be of any method)
        from ltgc_local.recipe import load_recipes

        return load_recipes(self.recipe, self.overrides, base=self.base, presets=self.presets)

    def load_one_run(self, out: Path | None) -> tuple[Recipe, Path, str]:
        """Return the one recipe of a file or of a run directory, its run directory, and the command that runs it.

        Raises:
            RecipeError: the recipe is wrong, or is a table; or a run's own recipe was to be changed.
        """
        from ltgc_local.pipeline.sweep import recipes_of_run

        is_run = (self.recipe / "recipe.json").is_file()
        loaded = recipes_of_run(self.recipe) if is_run else self.load()
        words = [word for each in self.overrides for word in ("--set", each)]
        words += [word for each in self.presets for word in ("--preset", str(each))]
        if is_run and (words or out is not None):
            changed = words[1] if words else f"--out {out}"
            raise RecipeError(f"{changed}: {self.recipe} is a run, which has its own recipe; give a recipe instead")
        if loaded.is_table:
            rows = ", ".join(loaded.rows)
            raise RecipeError(f"{self.recipe}: a table of recipes ({rows}), where one recipe is wanted")
        out = self.recipe if is_run else out or Path("runs") / loaded.name
        return loaded.rows[loaded.name], out, shlex.join(["ltgc-local", "run", str(self.recipe), *words])


def takes_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Add the argument RECIPE and its options to a command, which gets them as its first argument."""

    @functools.wraps(command)
    def call(
        *, recipe: Path, overrides: tuple[str, ...], base: Path | None, presets: tuple[Path, ...], **others: Any
    ) -> None:
        command(RecipeArguments(recipe, overrides, base, presets), **others)

    return functools.reduce(lambda decorated, decorate: decorate(decorated), reversed(_RECIPE), call)
