"""Questions about a plan: what a step depends on, what its name matches, which settings shape it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.errors import RecipeError
from ltgc_local.methods.base import REPORT, Step
from ltgc_local.methods.tgn.network import decoding_of
from ltgc_local.pipeline.plan import LOADING, NOT_SHAPING, build_plan, match_steps, step_settings, with_dependents
from ltgc_local.recipe import Recipe, load_recipe
from ltgc_local.recipe.messages import block_keys
from ltgc_local.recipe.schema import VARIANTS, Kmdn

ROOT = Path(__file__).resolve().parents[1]
MakeRecipe = Callable[..., Recipe]
# a <- b <- d, a <- c, e alone
STEPS = (
    Step("a", REPORT), Step("b/0", REPORT, ("a",)), Step("b/1", REPORT, ("a",)), Step("d", REPORT, ("b/0",)),
    Step("bb", REPORT),
)  # fmt: skip


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a"], ["a", "b/0", "b/1", "d"]),
        (["b/0"], ["b/0", "d"]),
        (["d", "bb"], ["d", "bb"]),
        (["bb", "b/1"], ["b/1", "bb"]),
        ([], []),
    ],
)
def test_dependents_are_all_that_reads_it_directly_or_not_in_plan_order(names: list[str], expected: list[str]) -> None:
    assert with_dependents(STEPS, names) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", ["a"]), ("b", ["b/0", "b/1"]), ("b/", ["b/0", "b/1"]), ("b/1", ["b/1"]), ("bb", ["bb"])],
)
def test_a_name_matches_one_step_or_all_under_it(text: str, expected: list[str]) -> None:
    assert match_steps(STEPS, text) == expected


@pytest.mark.parametrize("text", ["", "c", "A", "b/2", "a/0", "/"])
def test_an_unknown_step_is_a_usage_error_that_lists_them(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        match_steps(STEPS, text)
    assert str(caught.value) == f"no step is called {text!r}; steps: a, b/0, b/1, d, bb"
    assert caught.value.exit_code == 2


def test_training_again_redoes_what_follows_and_nothing_before(make_recipe: MakeRecipe) -> None:
    steps = build_plan(make_recipe())
    redone = with_dependents(steps, match_steps(steps, "train"))
    assert redone == ["train/ltgc", "train/control", "evaluate", "report"]


def test_settings_are_a_steps_own_blocks_the_seed_and_its_model(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("seed=7")
    (draw,) = (step for step in build_plan(recipe) if step.name == "draw")
    found = step_settings(draw, recipe.dump())
    assert found["seed"] == 7
    assert found["models.t2i"] == "miniature-sdxl"
    assert found["draw.steps"] == recipe.draw.steps
    assert {key.split(".")[0] for key in found} == {"seed", "data", "models", "draw"}
    assert not {"models.llm", "models.clip", "models.vlm", "models.cards", "data.root"} & found.keys()


def test_a_step_without_a_model_does_not_depend_on_models(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    (collect,) = (step for step in build_plan(recipe) if step.name == "generated")
    assert step_settings(collect, recipe.dump()) == {
        "seed": 0,
        "data.benchmark": "fashion_mnist_lt",
        "data.image_column": "image",
        "data.max_pixels": 64_000_000,
        "data.alpha_background": "white",
    }


def test_what_only_changes_the_speed_is_in_no_steps_settings(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("models.text_encoders=8bit", "models.unet=fp8")  # null ones are in no step
    found = {key for step in build_plan(recipe) for key in step_settings(step, recipe.dump())}
    assert not NOT_SHAPING & found
    for step in build_plan(recipe):
        if step.model_role:
            assert set(LOADING[step.model_role]) <= set(step_settings(step, recipe.dump()))


def _without_null(dumped: dict[str, Any]) -> dict[str, Any]:
    """Return a dumped recipe with every null field set: null ones are not among a step's settings."""
    return {
        key: _without_null(value) if isinstance(value, dict) else 0 if value is None else value
        for key, value in dumped.items()
    }


def test_a_null_field_is_no_setting_and_a_set_one_is(make_recipe: MakeRecipe) -> None:
    found = []
    for overrides in ((), ("draw.img2img_strength=0.5",)):
        recipe = make_recipe(*overrides)
        (draw,) = (step for step in build_plan(recipe) if step.name == "draw")
        found.append(step_settings(draw, recipe.dump()))
    assert "draw.img2img_strength" not in found[0]
    assert found[1] == found[0] | {"draw.img2img_strength": 0.5}


def test_every_setting_of_every_stage_shapes_some_step_or_only_its_speed(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    used = {
        key for step in build_plan(recipe) for key in step_settings(step, _without_null(recipe.dump()))
    } | NOT_SHAPING
    blocks = {"describe", "extend", "draw", "assess", "leaks", "train", "evaluate", "report"}
    for name in blocks:
        assert {f"{name}.{key}" for key in fields_of(name)} <= used


def test_every_setting_of_tgn_shapes_some_step_or_only_its_speed() -> None:
    recipe = load_recipe(ROOT / "recipes/tgn_quickstart.yaml", ["classifier.equal_steps=true"])
    used = {
        key for step in build_plan(recipe) for key in step_settings(step, _without_null(recipe.dump()))
    } | NOT_SHAPING
    blocks = {"split", "kmdn", "cdtg", "merge", "classifier", "measure", "leaks", "report"}
    for name in blocks:
        left = {f"{name}.{key}" for key in fields_of(name)} - used
        assert left <= {"kmdn.distill"}, name  # which says which steps there are
    assert {f"evaluate.{key}" for key in recipe.dump()["evaluate"]} <= used
    assert not {"zero_shot", "five_crop"} & recipe.dump()["evaluate"].keys()


def fields_of(name: str) -> set[str]:
    return {key for recipe in VARIANTS for key in block_keys(recipe).get(name, ())}


def test_what_is_not_shaping_is_a_field() -> None:
    for path in NOT_SHAPING:
        name, _, key = path.partition(".")
        assert key in fields_of(name), path


@pytest.mark.parametrize("change", ["data.alpha_background=black", "data.max_pixels=1000"])
def test_how_images_are_decoded_is_a_setting_of_every_step_and_of_decoded_files(
    make_recipe: MakeRecipe, tmp_path: Path, change: str
) -> None:
    plain, changed = make_recipe(), make_recipe(change)
    for step in build_plan(plain):
        assert step_settings(step, plain.dump()) != step_settings(step, changed.dump())
    names = [decoding_of(Kmdn(), tmp_path, 32, recipe.data).preprocessing for recipe in (plain, changed)]
    assert names[0] != names[1]
