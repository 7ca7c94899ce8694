"""Check a recipe, or each row of a table of recipes, and report every problem at once, with its line.

Rules between several keys are checked once each key is right by itself. Weights and images are not looked at: those are
a step's business.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ltgc_local.errors import RecipeError
from ltgc_local.recipe.files import CardFolders, check_files_of, check_use_of_t2i
from ltgc_local.recipe.layers import Block, Layers, apply_override, is_path, merge, read_layers
from ltgc_local.recipe.schema import Name, Recipe
from ltgc_local.recipe.uses import missing_roles, variant_of
from ltgc_local.recipe.words import (
    block_keys,
    describe_missing,
    describe_unknown,
    describe_value_problem,
    field_at,
    is_path_field,
    sort_problems,
)
from ltgc_local.shipped import resolve_shipped
from ltgc_local.yaml_tree import Entry, Place, Problem, locate

_NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True)
class Recipes:
    """The recipes of one file: a table's rows by their names, or the one recipe under its own."""

    name: str
    rows: dict[str, Recipe]
    is_table: bool


def load_recipe(path: Path | str, overrides: Sequence[str] = (), *, check_files: bool = True) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the YAML file; relative paths in it start at its folder, and ``shipped:`` ones at what comes with the
            program. Its ``base:``, another recipe, gives the keys that it does not write itself, but never the name:
            two of one name would share a run directory.
        overrides: the command line's ``--set`` options, such as "train.lr=3e-4"; the last of a key counts, and relative
            paths start at the current folder.
        check_files: also require that what ``data`` and ``models.cards`` name is there and that the cards fit their
            roles.

    Raises:
        RecipeError: with every problem found, one a line.
        ModelError: the recipe is right, but a card in its folder of cards is not.
    """
    recipes = load_recipes(path, overrides, check_files=check_files)
    if recipes.is_table:
        raise RecipeError(f"{path}: a table of recipes ({', '.join(recipes.rows)}), where one recipe is wanted")
    return next(iter(recipes.rows.values()))


def load_recipes(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    base: Path | None = None,
    presets: Sequence[Path] = (),
    check_files: bool = True,
) -> Recipes:
    """Read and check a recipe, or every row of a table: a recipe whose ``rows:`` name what each changes.

    Args:
        path, overrides, check_files: as for ``load_recipe``; an option changes every row.
        base: for a table, the recipe that its rows are laid over, in place of the one that it names.
        presets: parts of recipes that are laid over the recipe, under a table's rows, the last one on top.

    Raises:
        RecipeError, ModelError: as ``load_recipe``.
    """
    problems: list[Problem] = []
    file, *parts = (Path(resolve_shipped(each)) for each in (path, *presets))
    base = None if base is None else Path(resolve_shipped(base))
    layers = read_layers(file, base, parts, problems)
    for order, override in enumerate(overrides, start=2):
        apply_override(layers.block if layers else None, override, order, problems)
    if layers is None:
        raise RecipeError(sort_problems(problems))
    folders = CardFolders() if check_files else None
    if layers.rows is None:
        recipe = _check(layers.block, layers.place, folders, problems)
        if recipe is None or problems:
            raise RecipeError(sort_problems(problems))
        return Recipes(recipe.name, {recipe.name: recipe}, is_table=False)
    name = _table_name(layers, problems)
    rows: dict[str, Recipe] = {}
    for row, entry in layers.rows.items():
        block = merge(layers.block, entry.value if isinstance(entry.value, dict) else {})
        for order, override in enumerate(overrides, start=2):
            apply_override(block, override, order, problems)
        block["name"] = Entry(entry.place, row, row)
        recipe = _check(block, layers.place, folders, problems)
        if recipe is not None:
            rows[row] = recipe
    if problems:
        raise RecipeError(sort_problems(problems))
    return Recipes(name, rows, is_table=True)


def _check(block: Block, place: Place, folders: CardFolders | None, problems: list[Problem]) -> Recipe | None:
    """Return the recipe of a block, or None; append what is wrong with it to ``problems``.

    Args:
        folders: cards that were read already; None does not look at files.
    """
    root = Entry(place.at(1), block)
    plain = _plain_values(block)
    recipe = None
    try:
        recipe = Recipe.model_validate(plain)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            problems += _explain(dict(details), root)
    models = plain.get("models")
    if isinstance(models, dict):
        place_of_models = locate(root, ("models",))[0]
        missing = missing_roles(_variant_of(root), models)
        problems += [Problem(place_of_models, "models", problem) for problem in missing]
    if folders is not None:
        check_files_of(plain, root, folders, problems)
        if recipe is not None:
            check_use_of_t2i(recipe, root, folders, problems)
    return recipe


def _table_name(layers: Layers, problems: list[Problem]) -> str:
    entry = layers.block.pop("name", None)
    field = Recipe.model_fields["name"]
    if entry is None:
        problems.append(Problem(layers.place.at(1), "", describe_missing("", "name", field)))
        return ""
    try:
        return str(_NAME.validate_python(entry.value, strict=True))
    except ValidationError:
        problems.append(Problem(entry.place, "name", describe_value_problem(field, entry)))
        return ""


def _plain_values(block: Block) -> dict[str, Any]:
    """Return the values alone, as the schema wants them: an empty block is a block, paths are absolute."""
    blocks = block_keys()

    def plain(entry: Entry, loc: tuple[str, ...]) -> Any:
        if isinstance(entry.value, dict):
            return {key: plain(child, (*loc, key)) for key, child in entry.value.items()}
        if entry.value is None and loc[-1] in blocks and len(loc) == 1:
            return {}
        field = field_at(loc)
        if field is not None and is_path_field(field) and isinstance(entry.value, str) and is_path(entry.value):
            return _absolute(entry.place.folder, entry.value)
        return entry.value

    return {key: plain(entry, (key,)) for key, entry in block.items()}


def _absolute(folder: Path, text: str) -> Path:
    """Return the absolute path of ``text`` as seen from ``folder`` (by os.path: pathlib raises on a loop of links)."""
    return Path(os.path.realpath(os.path.join(folder, os.path.expanduser(resolve_shipped(text)))))


def _explain(error: dict[str, Any], root: Entry) -> list[Problem]:
    """Turn one of pydantic's errors into problems in plain words."""
    loc = tuple(str(part) for part in error["loc"][:2])
    variant = _variant_of(root)
    block, key, path = ".".join(loc[:-1]), loc[-1] if loc else "", ".".join(loc)
    place, entry = locate(root, loc)
    field = field_at(loc)
    if error["type"] == "conflict":
        found = [((*loc, *where.split(".")), text) for where, text in error["ctx"]["found"]]
        return [Problem(locate(root, where)[0], ".".join(where), text) for where, text in found]
    if error["type"] == "missing" and field is not None:
        return [Problem(place, block, describe_missing(block, key, field, variant))]
    if error["type"] == "extra_forbidden" and entry is not None:
        return [Problem(place, block, describe_unknown(block, key, entry, variant))]
    if field is None or entry is None:  # a kind of error that this version of pydantic has added
        return [Problem(place, path, error["msg"])]
    if isinstance(field.annotation, type) and key in block_keys() and len(loc) == 1:
        keys = ", ".join(block_keys()[key][:3])
        return [Problem(place, path, f"expected a block of keys, such as {keys}; found {_shown(entry)}")]
    return [Problem(place, path, describe_value_problem(field, entry))]


def _variant_of(root: Entry) -> str:
    """Return the method that is written, with its generator, whatever else is wrong."""

    def written(*loc: str) -> object:
        entry = locate(root, loc)[1]
        return None if entry is None else entry.value

    method = written("method")
    return variant_of("ltgc" if method is None else method, written("generator"), written("diffusion", "prompts"))


def _shown(entry: Entry) -> str:
    return "a list" if isinstance(entry.value, list) else f"'{entry.text}'"
