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
from ltgc_local.recipe.layers import Block, Layers, apply_override, is_null, is_path, merge, read_layers
from ltgc_local.recipe.markers import block_of
from ltgc_local.recipe.messages import (
    describe_missing,
    describe_unknown,
    describe_unused,
    describe_value_problem,
    field_at,
    is_path_field,
    sort_problems,
)
from ltgc_local.recipe.schema import DISCRIMINATORS, Name, Recipe, class_of
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
    kind, recipe = class_of(_bare_values(block)), None
    plain = _plain_values(block, kind)
    try:
        recipe = kind.model_validate(plain)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        is_undecided = any(details["loc"] in DISCRIMINATORS for details in errors)
        for details in errors:
            problems += _explain(dict(details), root, kind, is_undecided)
    if folders is not None:
        check_files_of(plain, root, folders, problems)
        if recipe is not None:
            check_use_of_t2i(recipe, root, folders, problems)
    return recipe


def _table_name(layers: Layers, problems: list[Problem]) -> str:
    entry = layers.block.pop("name", None)
    field = Recipe.model_fields["name"]
    if entry is None:
        problems.append(Problem(layers.place.at(1), "", describe_missing("name", field)))
        return ""
    try:
        return str(_NAME.validate_python(entry.value, strict=True))
    except ValidationError:
        problems.append(Problem(entry.place, "name", describe_value_problem(("name",), field, entry)))
        return ""


def _bare_values(block: Block) -> dict[str, Any]:
    values = {key: entry.value for key, entry in block.items()}
    return {key: _bare_values(value) if isinstance(value, dict) else value for key, value in values.items()}


def _plain_values(block: Block, kind: type[Recipe]) -> dict[str, Any]:
    """Return the values alone, as the schema wants them: an empty block is a block, paths are absolute.

    A null in place of a block or key that only another class of recipes has is left out: so a layer takes back what
    the ones below it say.
    """

    def plain(entry: Entry, loc: tuple[str, ...]) -> Any:
        if isinstance(entry.value, dict):
            return plain_block(entry.value, loc)
        field = field_at(kind, loc)
        if entry.value is None and field is not None and block_of(field) is not None:
            return {}
        if field is not None and is_path_field(field) and isinstance(entry.value, str) and is_path(entry.value):
            return _absolute(entry.place.folder, entry.value)
        return entry.value

    def plain_block(block: Block, loc: tuple[str, ...] = ()) -> dict[str, Any]:
        inner = {key: (entry, (*loc, key)) for key, entry in block.items()}
        return {key: plain(*at) for key, at in inner.items() if not (is_null(at[0]) and describe_unused(kind, at[1]))}

    return plain_block(block)


def _absolute(folder: Path, text: str) -> Path:
    """Return the absolute path of ``text`` as seen from ``folder`` (by os.path: pathlib raises on a loop of links)."""
    return Path(os.path.realpath(os.path.join(folder, os.path.expanduser(resolve_shipped(text)))))


def _explain(error: dict[str, Any], root: Entry, kind: type[Recipe], is_undecided: bool) -> list[Problem]:
    """Turn one of pydantic's errors into problems in plain words.

    Args:
        is_undecided: what says which class the recipe is of is wrong, so that another class's keys are no problem.
    """
    loc = tuple(str(part) for part in error["loc"][:2])
    block, key, path = ".".join(loc[:-1]), loc[-1] if loc else "", ".".join(loc)
    place, entry = locate(root, loc)
    field = field_at(kind, loc)
    if error["type"] == "conflict":
        found = [((*loc, *where.split(".")), text) for where, text in error["ctx"]["found"]]
        return [Problem(locate(root, where)[0], ".".join(where), text) for where, text in found]
    if error["type"] == "missing" and field is not None:
        return [] if is_undecided and block == "models" else [Problem(place, block, describe_missing(key, field))]
    if error["type"] == "extra_forbidden" and entry is not None:
        if unused := describe_unused(kind, loc):
            return [] if is_undecided else [Problem(place, path, unused)]
        return [Problem(place, block, describe_unknown(kind, block, key, entry))]
    if field is None or entry is None:  # a kind of error that this version of pydantic has added
        return [Problem(place, path, error["msg"])]
    if inner := block_of(field):
        keys = ", ".join([*inner.__annotations__, *inner.model_fields][:3])
        return [Problem(place, path, f"expected a block of keys, such as {keys}; found {_shown(entry)}")]
    return [Problem(place, path, describe_value_problem(loc, field, entry))]


def _shown(entry: Entry) -> str:
    return "a list" if isinstance(entry.value, list) else f"'{entry.text}'"
