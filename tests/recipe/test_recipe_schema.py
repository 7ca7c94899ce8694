"""The schema documents itself, and agrees with the registries next to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from ltgc_local.datasets import BENCHMARKS
from ltgc_local.datasets.fashion_mnist_lt import MADE_BY
from ltgc_local.model_store.cards import ROLES
from ltgc_local.recipe.files import DATA_COMMANDS
from ltgc_local.recipe.generation import Draw
from ltgc_local.recipe.inputs import DATA_KEYS, Data, LtgcModels
from ltgc_local.recipe.learning import Train
from ltgc_local.recipe.markers import Presents, Shapes, iterate_fields, marker
from ltgc_local.recipe.messages import SYNONYMS, block_keys
from ltgc_local.recipe.reference import CHANGES, Key, iterate_keys
from ltgc_local.recipe.schema import VARIANTS, LtgcRecipe

KEYS = list(iterate_keys())


def test_every_key_is_in_the_reference_once_with_the_recipes_that_have_it() -> None:
    keys = {key.name: key for key in KEYS}
    assert len(keys) == len(KEYS)
    assert set(keys) == {name for recipe in VARIANTS.values() for name, _ in iterate_fields(recipe)}
    assert keys["train.lr"].recipes == ("ltgc",)
    assert keys["kmdn.feature"].recipes == ("tgn wavelet_gan", "tgn diffusion classes", "tgn diffusion descriptions")
    assert keys["describe.max_images_per_class"].recipes == ("ltgc", "tgn diffusion descriptions")


def test_the_reference_says_of_a_key_what_its_field_says() -> None:
    keys = {key.name: key for key in KEYS}
    assert keys["extend.max_descriptions"] == Key(
        "extend.max_descriptions",
        ("ltgc", "tgn diffusion descriptions"),
        "a whole number from 1 to 100000",
        "300",
        "paper",
        "results",
        "K_y, existing and extended descriptions of a class together. The paper has 100 for iNaturalist 2018, 300 for "
        "ImageNet-LT and 800 for Places-LT.",
    )
    assert (keys["method"].values, keys["method"].default) == ("one of 'ltgc', 'tgn'", '"ltgc"')
    assert keys["generator"].values == "one of 'wavelet_gan', 'diffusion'"
    assert (keys["data.root"].default, keys["data.lists"].default) == ("", "null")
    changes = {key.name: key.changes for key in KEYS}
    assert changes["draw.batch_size"] == "speed or memory" and changes["draw.steps"] == "results"
    assert changes["train.control"] == "which steps there are"
    assert changes["data.root"] == "the data or models, by their digest"
    assert changes["report.leak_pairs"] == "how results are shown"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_key_says_what_it_means_and_leaves_its_source_to_the_marker(key: Key) -> None:
    assert key.meaning.endswith((".", ".)")) and key.source in ("paper", "released code", "ours")
    assert not re.search(r"\b[Oo]urs\b|\[(paper|released)", key.meaning)


def test_every_required_value_has_an_example_to_type() -> None:
    for recipe in VARIANTS.values():
        assert [name for name, field in iterate_fields(recipe) if field.is_required() and not field.examples] == []


def test_a_field_has_at_most_one_marker_of_what_it_changes() -> None:
    for recipe in VARIANTS.values():
        for name, field in iterate_fields(recipe):
            changes = [kind for kind in CHANGES if marker(field, kind) is not None]
            assert len(changes) <= 1, name
            assert not marker(field, Shapes) or changes in ([], [Presents]), name  # what is stored is stored by a step


def test_benchmarks_are_those_of_the_registry() -> None:
    choices = get_args(Data.model_fields["benchmark"].annotation)
    assert set(choices) == set(BENCHMARKS) > set(DATA_COMMANDS)
    assert all(set(benchmarks) <= set(BENCHMARKS) for benchmarks in DATA_KEYS.values())
    assert {"benchmark", "root", *DATA_KEYS} == set(Data.model_fields)
    assert DATA_COMMANDS["fashion_mnist_lt"] == MADE_BY


def test_every_role_has_a_key_in_models() -> None:
    assert set(ROLES) < {key for recipe in VARIANTS.values() for key in block_keys(recipe)["models"]}


def test_synonyms_lead_to_keys_and_are_none_themselves() -> None:
    keys = {key for recipe in VARIANTS.values() for block in block_keys(recipe).values() for key in block}
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
