"""The schema documents itself, and agrees with what stands beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from ltgc_local.datasets import BENCHMARKS
from ltgc_local.datasets.fashion_mnist_lt import MADE_BY
from ltgc_local.model_store import ROLES
from ltgc_local.recipe.files import DATA_COMMANDS
from ltgc_local.recipe.messages import SYNONYMS, block_keys, block_of
from ltgc_local.recipe.schema import DATA_KEYS, VARIANTS, Data, Draw, LtgcModels, LtgcRecipe, Recipe, TgnRecipe, Train

SOURCES = ("ours", "[paper", "[released code")


def fields() -> list[tuple[str, Any]]:
    found: dict[str, Any] = {}
    for recipe in (Recipe, TgnRecipe, *VARIANTS):  # what a class narrows is described where it is first declared
        for name, field in recipe.model_fields.items():
            block = block_of(field)
            found = {name: field} | found
            found = {f"{name}.{key}": inner for key, inner in block.model_fields.items()} | found if block else found
    return list(found.items())


@pytest.mark.parametrize(("name", "field"), fields())
def test_every_field_says_where_its_default_comes_from(name: str, field: Any) -> None:
    assert field.description, name
    assert any(source in field.description.lower() for source in SOURCES), f"{name}: {field.description}"


@pytest.mark.parametrize(("name", "field"), fields())
def test_every_required_value_has_an_example_to_type(name: str, field: Any) -> None:
    assert not field.is_required() or block_of(field) or field.examples


def test_benchmarks_are_those_of_the_registry() -> None:
    choices = get_args(Data.model_fields["benchmark"].annotation)
    assert set(choices) == set(BENCHMARKS) > set(DATA_COMMANDS)
    assert all(set(benchmarks) <= set(BENCHMARKS) for benchmarks in DATA_KEYS.values())
    assert {"benchmark", "root", *DATA_KEYS} == set(Data.model_fields)
    assert DATA_COMMANDS["fashion_mnist_lt"] == MADE_BY


def test_every_role_has_a_key_in_models() -> None:
    assert set(ROLES) < {key for recipe in VARIANTS for key in block_keys(recipe)["models"]}


def test_synonyms_lead_to_keys_and_are_none_themselves() -> None:
    keys = {key for recipe in VARIANTS for block in block_keys(recipe).values() for key in block}
    assert set(SYNONYMS.values()) <= keys
    assert not set(SYNONYMS) & keys


def test_recipes_made_in_python_are_checked_too() -> None:
    with pytest.raises(ValidationError, match="larger than size_px"):
        Draw(size_px=64, stored_size_px=128)
    with pytest.raises(ValidationError, match="trains the control twice"):
        Train(mixing="none")


def test_a_recipe_is_frozen() -> None:
    models = LtgcModels(cards=Path("x"), vlm="a", llm="b", t2i="c", clip="d")
    recipe = LtgcRecipe(name="x", data=Data(root=Path("y")), models=models)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]
