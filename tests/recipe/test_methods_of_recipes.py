"""A recipe cannot contain what its method does not use, must contain what it needs, and survives a dump."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ltgc_local.errors import RecipeError
from ltgc_local.recipe import DescribedRecipe, DiffusionRecipe, GanRecipe, class_of, load_recipe

TGN = "name: x\nmethod: tgn\ndata:\n  root: ../data\nmodels:\n  cards: ../cards\n  clip: score\n"


def problems_of(text: str, *overrides: str) -> list[str]:
    Path("recipes/x.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe("recipes/x.yaml", overrides)
    return [line.removeprefix("recipes/x.yaml:") for line in str(caught.value).split("\n")]


def test_tgn_needs_a_clip_and_no_other_model(workplace: Path) -> None:
    Path("recipes/x.yaml").write_text(TGN)
    recipe = load_recipe("recipes/x.yaml")
    assert (recipe.method, recipe.roles) == ("tgn", ("clip",))
    assert recipe.selections == dict.fromkeys(("kmdn.select", "classifier.select"), ("best_val_macro_f1", "last"))
    assert problems_of(TGN.replace("  clip: score\n", "")) == [
        "5: models: missing key 'clip'; write for example 'clip: tiny-clip'"
    ]


def test_ltgc_needs_all_four_and_says_so_with_other_problems(workplace: Path) -> None:
    text = TGN.replace("tgn", "ltgc") + "seed: x\n"
    found = problems_of(text)
    assert found[:3] == [
        "5: models: missing key 'vlm'; write for example 'vlm: tiny-vlm'",
        "5: models: missing key 'llm'; write for example 'llm: tiny-llm'",
        "5: models: missing key 't2i'; write for example 't2i: tiny-t2i'",
    ]
    assert found[3].startswith("8: seed: expected a whole number")


DIFFUSION = TGN.replace("method: tgn\n", "method: tgn\ngenerator: diffusion\n").replace(
    "score\n", "score\n  t2i: draw\n"
)


def test_diffusion_needs_a_t2i_and_only_it_may_name_one(workplace: Path) -> None:
    Path("recipes/x.yaml").write_text(DIFFUSION)
    recipe = load_recipe("recipes/x.yaml")
    assert set(recipe.roles) == {"t2i", "clip"} and type(recipe) is DiffusionRecipe
    assert "cdtg" not in recipe.dump() and "diffusion" in recipe.dump()
    assert problems_of(DIFFUSION.replace("  t2i: draw\n", "")) == [
        "6: models: missing key 't2i'; write for example 't2i: tiny-t2i'"
    ]
    for line in ("t2i: draw", "text_encoders: 8bit", "unet: fp8"):
        assert problems_of(TGN.replace("score\n", f"score\n  {line}\n")) == [
            f"8: models.{line.split(':')[0]}: the generator 'wavelet_gan' does not use it; remove it, or write "
            "'generator: diffusion'"
        ]


def test_the_block_of_the_other_generator_is_refused(workplace: Path) -> None:
    assert problems_of(DIFFUSION + "cdtg:\n  size_px: 64\n") == [
        "10: cdtg: the generator 'diffusion' does not use it; remove it, or write 'generator: wavelet_gan'"
    ]
    assert problems_of(TGN + "diffusion:\n") == [
        "8: diffusion: the generator 'wavelet_gan' does not use it; remove it, or write 'generator: diffusion'"
    ]


def test_a_null_takes_back_what_a_layer_below_says(workplace: Path) -> None:
    Path("recipes/x.yaml").write_text(DIFFUSION + "diffusion:\n  steps: 3\nkmdn:\n  epochs: 3\n")
    back = ["generator=wavelet_gan", "models.t2i=null", "diffusion=null"]
    recipe = load_recipe("recipes/x.yaml", back)
    assert type(recipe) is GanRecipe and "diffusion" not in recipe.dump()
    assert load_recipe("recipes/x.yaml", ["kmdn=null"]).kmdn.epochs == 100
    Path("recipes/y.yaml").write_text(
        "name: y\nbase: x.yaml\ngenerator: wavelet_gan\nmodels: {t2i: null}\ndiffusion: null\nkmdn:\n"
    )
    recipe = load_recipe("recipes/y.yaml")
    assert type(recipe) is GanRecipe and recipe.kmdn.epochs == 3, "nothing under a key changes nothing"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("method: tng", "2: method: expected one of 'ltgc', 'tgn'; found the text 'tng'; did you mean 'tgn'?"),
        (
            "method: tgn\ngenerator: difusion",
            "3: generator: expected one of 'wavelet_gan', 'diffusion'; found the text 'difusion'; "
            "did you mean 'diffusion'?",
        ),
        (
            "method: tgn\ngenerator: diffusion\ndiffusion: {prompts: description}",
            "4: diffusion.prompts: expected one of 'classes', 'descriptions'; found the text 'description'; "
            "did you mean 'descriptions'?",
        ),
    ],
)
def test_where_the_choice_itself_is_wrong_what_depends_on_it_is_no_problem_yet(
    workplace: Path, line: str, expected: str
) -> None:
    text = DIFFUSION.replace("method: tgn\ngenerator: diffusion", line)
    more = "" if "prompts" in line else "diffusion:\n  steps: 3\n"
    assert problems_of(text + more + "kmdn:\n  epochs: 3\n") == [expected]


def test_descriptions_need_the_text_models_and_their_blocks(workplace: Path) -> None:
    found = problems_of(DIFFUSION + "diffusion:\n  prompts: descriptions\n")
    assert found == [
        "6: models: missing key 'vlm'; write for example 'vlm: tiny-vlm'",
        "6: models: missing key 'llm'; write for example 'llm: tiny-llm'",
    ]
    text = DIFFUSION.replace("  t2i:", "  vlm: see\n  llm: write\n  t2i:")
    Path("recipes/x.yaml").write_text(text + "diffusion:\n  prompts: descriptions\nextend:\n  max_descriptions: 200\n")
    recipe = load_recipe("recipes/x.yaml")
    assert set(recipe.roles) == {"vlm", "llm", "t2i", "clip"} and type(recipe) is DescribedRecipe
    assert "tail_below" not in recipe.dump()["describe"] and "source" not in recipe.dump()["extend"]
    assert problems_of(DIFFUSION + "extend:\n  per_ask: 3\n") == [
        "10: extend: diffusion.prompts 'classes' does not use it; remove it, or write 'prompts: descriptions'"
    ]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            "strength: from_x",
            "11: diffusion.strength: expected a number above 0, at most 1, or 'from_r' (or null); found",
        ),
        ("strength: 1.5", "11: diffusion.strength: expected a number above 0, at most 1, or 'from_r' (or null)"),
        ("strength: 0.01", "11: diffusion.strength: 0.01 of 30 steps is less than one step; raise it or draw_steps"),
        ("negative_prompt: blur\n  guidance: 1", "11: diffusion.negative_prompt: has no effect at guidance 1;"),
        ("stored_size_px: 1024", "11: diffusion.stored_size_px: 1024 is larger than size_px, 512; images only shrink"),
        ("acept: none", "11: diffusion: unknown key 'acept'; did you mean 'accept'?"),
        ("accept: clip_only", "11: diffusion.accept: expected one of 'none', 'clip', 'tail_network', 'either'; found"),
    ],
)
def test_wrong_values_of_diffusion_are_told(workplace: Path, more: str, expected: str) -> None:
    (found,) = problems_of(f"{DIFFUSION}diffusion:\n  {more}\n")
    assert found.startswith(expected)


def test_a_strength_from_no_noise_is_told(workplace: Path) -> None:
    (found,) = problems_of(DIFFUSION + "diffusion:\n  strength: from_r\n  r: 0\n")
    assert found.startswith("11: diffusion.strength: 'from_r' of r 0 adds no noise")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("draw:\n  steps: 3\n", "8: draw: method tgn does not use it; remove it"),
        ("train:\n", "8: train: method tgn does not use it; remove it"),
        ("evaluate:\n  five_crop: true\n", "9: evaluate.five_crop: method tgn does not use it; remove it"),
    ],
)
def test_blocks_and_keys_of_the_other_method_are_refused(workplace: Path, more: str, expected: str) -> None:
    assert problems_of(TGN + more) == [expected]


def test_tgns_blocks_are_refused_under_ltgc(workplace: Path) -> None:
    good = (workplace / "recipes/good.yaml").read_text()
    assert problems_of(good + "kmdn:\n  epochs: 3\n") == ["10: kmdn: method ltgc does not use it; remove it"]
    assert problems_of(good, "merge.images=3") == [
        "--set merge.images=3: merge: method ltgc does not use it; remove it"
    ]
    backbone = good.replace("  clip: score\n", "  clip: score\n  backbone: score\n")
    assert any("models.backbone: method ltgc does not use it" in line for line in problems_of(backbone))


def test_hints_are_of_the_recipes_own_method(workplace: Path) -> None:
    assert problems_of(TGN + "epochs: 3\n") == ["8: unknown key 'epochs'; it belongs in 'kmdn' or in 'classifier'"]
    assert problems_of(TGN + "kmdm:\n  epochs: 3\n") == ["8: unknown block 'kmdm'; did you mean 'kmdn'?"]
    found = problems_of("name: x\nmethod: tgn\n")
    assert "missing block 'models'; write 'models:' and under it 'cards' and 'clip'" in found[1]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("cdtg:\n  size_px: 48\n", "9: cdtg.size_px: 48 is not a power of two; write 32, 64, 128 or 256"),
        ("cdtg:\n  r_train_low: 0.9\n", "9: cdtg.r_train_low: 0.9 is above r_train, 0.8"),
        ("merge:\n  budget: median\n  images: 9\n", "10: merge.images: has no effect on budget 'median'; remove it"),
        ("split:\n  prompt: a photo\n", "9: split.prompt: expected"),
        (
            "kmdn:\n  distill_epochs: 50\n",
            "9: kmdn.distill_epochs: 50 are over before the tail network is a student; write more than "
            "distill_interval, 50",
        ),
    ],
)
def test_values_that_contradict_are_told(workplace: Path, more: str, expected: str) -> None:
    (found,) = problems_of(TGN + more)
    assert found.startswith(expected)


@pytest.mark.parametrize("text", ["good", "tgn"])
def test_a_dumped_recipe_has_what_its_method_uses_and_loads_as_the_same(workplace: Path, text: str) -> None:
    path = Path("recipes/good.yaml")
    if text == "tgn":
        path = Path("recipes/x.yaml")
        path.write_text(TGN + "kmdn:\n  epochs: 3\n")
    recipe = load_recipe(path)
    dumped = recipe.dump()
    assert ("kmdn" in dumped, "train" in dumped) == (text == "tgn", text == "good")
    again = class_of(dumped).model_validate_json(json.dumps(dumped))
    assert (again, again.dump()) == (recipe, dumped)
