"""Check a recipe, or each row of a table of recipes, and report every problem at once, with its line.

Rules that involve several keys are checked once each key is valid by itself. Weights and images are checked by the
steps that read them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ltgc_local.errors import ModelError, RecipeError
from ltgc_local.recipe.block import Name
from ltgc_local.recipe.files import ReadCards, check_cards, check_data, check_use_of_t2i, read_cards
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
from ltgc_local.recipe.schema import DISCRIMINATORS, Recipe, class_of
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
        path: the YAML file. Its relative paths start at its folder, ``shipped:`` ones at what comes with the program.
            Its ``base:``, another recipe, supplies the keys that it does not write itself, except the name: recipes of
            the same name would share a run directory.
        overrides: the command line's ``--set`` options, such as "train.lr=3e-4". The last one for a key counts, and
            relative paths start at the current folder.
        check_files: also require that what ``data`` and ``models.cards`` name exists and that the cards fit their
            roles.

    Raises:
        RecipeError: with every problem found, one per line.
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
        base: for a table, the recipe that its rows build on, in place of the one that it names.
        presets: partial recipes that are applied on top of the recipe, below a table's rows, the last one on top.

    Raises:
        RecipeError, ModelError: as ``load_recipe``.
    """
    problems: list[Problem] = []
    file, *parts = (Path(resolve_shipped(each)) for each in (path, *presets))
    layers = read_layers(file, None if base is None else Path(resolve_shipped(base)), parts, problems)
    for order, override in enumerate(overrides, start=2):
        apply_override(layers.block if layers else None, override, order, problems)
    if layers is None:
        raise RecipeError(sort_problems(problems))
    cards = functools.cache(read_cards) if check_files else None  # the rows of a table mostly share a folder
    if layers.rows is None:
        recipe = _check(layers.block, layers.place, cards, problems)
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
        recipe = _check(block, layers.place, cards, problems)
        if recipe is not None:
            rows[row] = recipe
    if problems:
        raise RecipeError(sort_problems(problems))
    return Recipes(name, rows, is_table=True)


def _check(block: Block, place: Place, cards: ReadCards | None, problems: list[Problem]) -> Recipe | None:
    """Return the recipe of a block, or None; append what is wrong with it to ``problems``.

    Args:
        cards: reads a folder of cards; None checks no files.
    """
    root = Entry(place.at(1), block)
    kind, recipe = class_of(_values(root)), None
    plain = _plain_values(root, (), kind)
    try:
        recipe = kind.model_validate(plain)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        # A key that the class does not have is wrong too, but decides nothing.
        wrong = (details["loc"] for details in errors if details["type"] != "extra_forbidden")
        is_undecided = any(loc in DISCRIMINATORS for loc in wrong)
        for details in errors:
            problems += _explain(dict(details), root, kind, is_undecided)
    if cards is not None:
        found = list(check_data(plain))
        try:
            found += check_cards(plain, cards)
        except ModelError as error:
            if not problems and not found:
                raise
            found.append(("models.cards", str(error)))
        if recipe is not None:
            found += check_use_of_t2i(recipe, cards)
        problems += [_problem_at(root, path, text) for path, text in found]
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


def _values(entry: Entry) -> Any:
    """Return an entry's bare value; a block's as a dict of bare values."""
    value = entry.value
    return {key: _values(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _plain_values(entry: Entry, loc: tuple[str, ...], kind: type[Recipe]) -> Any:
    """Return an entry's value as the schema expects it: an empty block is a block, and paths are absolute.

    A null in place of a block or key that only another class of recipes has is left out, so that a layer can take back
    what the ones below it say.
    """
    field = field_at(kind, loc)
    if isinstance(entry.value, dict):
        inner = {key: (child, (*loc, key)) for key, child in entry.value.items()}
        return {
            key: _plain_values(child, at, kind)
            for key, (child, at) in inner.items()
            if not (is_null(child) and describe_unused(kind, at))
        }
    if entry.value is None and field is not None and block_of(field) is not None:
        return {}
    if field is not None and is_path_field(field) and isinstance(entry.value, str) and is_path(entry.value):
        text = os.path.expanduser(resolve_shipped(entry.value))
        return Path(os.path.realpath(os.path.join(entry.place.folder, text)))  # pathlib raises on a loop of links
    return entry.value


def _problem_at(root: Entry, path: str, text: str) -> Problem:
    return Problem(locate(root, tuple(path.split(".")))[0], path, text)


def _explain(error: dict[str, Any], root: Entry, kind: type[Recipe], is_undecided: bool) -> list[Problem]:
    """Turn one of pydantic's errors into problems in plain words.

    Args:
        is_undecided: a key that decides the recipe's class is wrong, so another class's keys are not reported.
    """
    loc = tuple(str(part) for part in error["loc"][:2])
    block, key, path = ".".join(loc[:-1]), loc[-1] if loc else "", ".".join(loc)
    place, entry = locate(root, loc)
    field = field_at(kind, loc)
    if error["type"] == "conflict":
        return [_problem_at(root, ".".join((*loc, where)), text) for where, text in error["ctx"]["found"]]
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
        found = "a list" if isinstance(entry.value, list) else f"'{entry.text}'"
        return [Problem(place, path, f"expected a block of keys, such as {keys}; found {found}")]
    return [Problem(place, path, describe_value_problem(loc, field, entry))]
