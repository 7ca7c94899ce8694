"""Questions about a plan: what a step depends on, what its name matches, which settings shape it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.errors import RecipeError
from ltgc_local.methods.base import REPORT, Step
from ltgc_local.methods.tgn.network import image_cache
from ltgc_local.pipeline.plan import build_plan, match_steps, shaping_keys, step_settings, with_dependents
from ltgc_local.recipe import Recipe, load_recipe
from ltgc_local.recipe.markers import NOT_FINGERPRINTED, iterate_fields, marker
from ltgc_local.recipe.schema import VARIANTS
from ltgc_local.recipe.tgn import Kmdn

ROOT = Path(__file__).resolve().parents[1]
MakeRecipe = Callable[..., Recipe]
# a <- b <- d, a <- c, e alone
A = Step("a", REPORT)
B_0, B_1 = (Step(f"b/{number}", REPORT, {"first": (A,)}) for number in range(2))
STEPS = (A, B_0, B_1, Step("d", REPORT, {"second": (B_0,)}), Step("bb", REPORT))


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
    tested = [f"{kind}/{arm}" for kind in ("validate", "predict") for arm in ("control", "ltgc")]
    assert redone == ["train/control", "train/ltgc", *tested, "evaluate", "report"]


def test_settings_are_a_steps_own_blocks_the_seed_and_its_model(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("seed=7")
    (draw,) = (step for step in build_plan(recipe) if step.name == "draw")
    found = step_settings(draw, recipe)
    assert found["seed"] == 7
    assert found["models.t2i"] == "miniature-sdxl"
    assert found["draw.steps"] == recipe.draw.steps
    assert {key.split(".")[0] for key in found} == {"seed", "data", "models", "draw"}
    assert not {"models.llm", "models.clip", "models.vlm", "models.cards", "data.root"} & found.keys()


def test_a_step_without_a_model_does_not_depend_on_models(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    (collect,) = (step for step in build_plan(recipe) if step.name == "generated")
    assert step_settings(collect, recipe) == {
        "seed": 0,
        "data.benchmark": "fashion_mnist_lt",
        "data.image_column": "image",
        "data.max_pixels": 64_000_000,
        "data.alpha_background": "white",
    }


def test_a_steps_settings_have_what_shapes_its_model_and_nothing_that_changes_speed_alone(
    make_recipe: MakeRecipe,
) -> None:
    recipe = make_recipe("models.text_encoders=8bit", "models.unet=fp8")  # null ones are in no step
    settings = {step.name: step_settings(step, recipe) for step in build_plan(recipe)}
    assert {key for key in settings["draw"] if key.startswith("models.")} == {
        *("models.t2i", "models.device", "models.dtype", "models.threads", "models.text_encoders", "models.unet"),
    }
    assert {key for key in settings["describe"] if key.startswith("models.")} == {
        *("models.vlm", "models.device", "models.dtype", "models.threads", "models.quantization"),
        *("models.max_model_len", "models.max_pixels", "models.t2i"),  # the t2i for its tokenizer
    }
    found = {key for each in settings.values() for key in each}
    speed = {"draw.batch_size", "draw.compile", "train.decode_workers", "models.decode_threads", "assess.batch_size"}
    assert not found & {*speed, "data.root", "models.cards", "train.control", "leaks.enabled"}


def test_a_null_field_is_no_setting_and_a_set_one_is(make_recipe: MakeRecipe) -> None:
    found = []
    for overrides in ((), ("draw.img2img_strength=0.5",)):
        recipe = make_recipe(*overrides)
        (draw,) = (step for step in build_plan(recipe) if step.name == "draw")
        found.append(step_settings(draw, recipe))
    assert "draw.img2img_strength" not in found[0]
    assert found[1] == found[0] | {"draw.img2img_strength": 0.5}


#: Keys that choose a step's model, its backend or how it is shared, and so are in no step under their own names.
CHOOSING = {
    *("name", "method", "generator", "models.backend", "models.tensor_parallel", "models.backbone"),
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("quickstart", ("ensemble.towers=2", "ensemble.distill=true")),
        ("tgn_quickstart", ()),
        ("tgn_diffusion_quickstart", ()),
    ],
)
def test_every_key_shapes_some_step_or_its_marker_says_that_it_need_not(name: str, options: tuple[str, ...]) -> None:
    recipe = load_recipe(ROOT / f"recipes/{name}.yaml", options)
    fields = dict(iterate_fields(type(recipe)))
    used = {key for step in build_plan(recipe) for key in shaping_keys(step, type(recipe))}
    shapeless = {key for key, field in fields.items() if marker(field, NOT_FINGERPRINTED)}
    assert not used & shapeless
    assert set(fields) - used - shapeless <= CHOOSING


def test_a_setting_that_no_field_is_of_is_an_error(make_recipe: MakeRecipe) -> None:
    for setting in ("kmdn", "train:nothing", "train.nothing"):
        with pytest.raises(LookupError, match="no field of the recipe"):
            shaping_keys(Step("x", "y", settings=(setting,)), type(make_recipe()))


def test_a_part_of_a_block_is_what_is_marked_for_it_and_the_block_is_the_rest() -> None:
    kind = VARIANTS["tgn", "wavelet_gan"]
    keys = {part: shaping_keys(Step("x", "y", settings=(part,)), kind) for part in ("cdtg", "cdtg:generate")}
    generate = {"cdtg.r", "cdtg.shard_size", "cdtg.stored_size_px", "cdtg.stored_mode"}
    assert {key for key in keys["cdtg:generate"] if key.startswith("cdtg")} == generate
    assert not generate & set(keys["cdtg"]) and "cdtg.steps" in keys["cdtg"] and "cdtg.compile" not in keys["cdtg"]


@pytest.mark.parametrize("change", ["data.alpha_background=black", "data.max_pixels=1000"])
def test_how_images_are_decoded_is_a_setting_of_every_step_and_of_decoded_files(
    make_recipe: MakeRecipe, tmp_path: Path, change: str
) -> None:
    plain, changed = make_recipe(), make_recipe(change)
    for step in build_plan(plain):
        assert step_settings(step, plain) != step_settings(step, changed)
    names = [image_cache(Kmdn(), tmp_path, recipe.data).preprocessing for recipe in (plain, changed)]
    assert names[0] != names[1]
