"""The arms of a plan: towers, ensembles, their controls, and the model that learns from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltgc_local.errors import RecipeError
from ltgc_local.methods.base import Step
from ltgc_local.methods.ltgc.arms import tower_settings
from ltgc_local.pipeline.plan import build_plan, step_settings
from ltgc_local.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "recipes" / "quickstart.yaml"
PLAIN = (
    "train.mixing=balance_mix", "train.loss=cross_entropy", "train.sampler=balanced", "train.prior=effective",
    "ensemble=null",
)  # fmt: skip
ENSEMBLE = (
    "train.mixing=replace", "train.loss=logit_adjustment", "train.sampler=instance", "train.prior=originals",
    "ensemble.towers=2", "ensemble.mixing=balance_mix", "ensemble.loss=cross_entropy", "ensemble.sampler=balanced",
)  # fmt: skip
SOUP = ("ensemble.towers=3", "ensemble.combine=towers", "ensemble.subsets=true")


def steps_of(*options: str) -> dict[str, Step]:
    return {step.name: step for step in build_plan(load_recipe(QUICKSTART, [*PLAIN, *options]))}


def test_one_tower_is_trained_and_tested_under_the_names_of_its_arm() -> None:
    steps = steps_of()
    trained = [name for name in steps if name.startswith(("train/", "weigh/"))]
    assert sorted(trained) == ["train/control", "train/ltgc"]
    assert {"validate/ltgc", "predict/ltgc", "predict/zero_shot"} <= set(steps)


def test_an_ensemble_has_a_control_with_as_many_towers_and_tests_every_part() -> None:
    steps = steps_of(*ENSEMBLE)
    for side in ("control", "ltgc"):
        assert steps[f"weigh/{side}"].reads[:2] == (f"validate/{side}_1", f"validate/{side}_2")
        assert steps[f"predict/{side}"].reads == (f"weigh/{side}", f"predict/{side}_1", f"predict/{side}_2")
        assert f"train/{side}" not in steps
    assert "validate/control_1" in steps["weigh/ltgc"].reads  # whose accuracy on many-shot classes is the limit
    assert "validate/control_1" not in steps["weigh/control"].reads[2:]
    assert all("generated" not in steps[f"train/control_{number}"].reads for number in (1, 2))


def test_the_weights_are_chosen_without_test_images() -> None:
    steps = steps_of(*ENSEMBLE, "ensemble.distill=true")
    reads = {"weigh/ltgc", "train/ltgc"}
    while more := {name for step in reads for name in steps[step].reads} - reads:
        reads |= more
    assert not [name for name in reads if name.startswith("predict/")]


def test_the_distilled_model_is_the_arm_and_the_ensemble_a_part() -> None:
    steps = steps_of(
        *ENSEMBLE, "ensemble.distill=true", "ensemble.distill_mixing=balance_mix", "ensemble.distill_epochs=24"
    )
    assert steps["train/ltgc"].reads == ("generated", "train/ltgc_1", "train/ltgc_2", "weigh/ltgc")
    student = {"train.mixing": "balance_mix", "train.sampler": "instance", "train.epochs": 24}
    assert steps["train/ltgc"].overrides == student
    assert steps["predict/ltgc"].reads == ("train/ltgc",)
    assert steps["predict/ltgc_ensemble"].reads == ("weigh/ltgc", "predict/ltgc_1", "predict/ltgc_2")
    assert steps["predict/control"].reads[0] == "weigh/control"


def test_a_tower_that_differs_has_the_fingerprint_of_a_recipe_that_trains_so() -> None:
    recipe = load_recipe(QUICKSTART, [*PLAIN, *ENSEMBLE])
    plain = load_recipe(QUICKSTART, PLAIN)
    second = steps_of(*ENSEMBLE)["train/ltgc_2"]
    alone = steps_of()["train/ltgc"]
    assert step_settings(second, recipe) == step_settings(alone, plain)


def test_zero_shot_clip_may_be_a_member_of_both_ensembles() -> None:
    steps = steps_of("ensemble.zero_shot=true")
    assert steps["weigh/control"].reads == ("validate/control_1", "validate/zero_shot")
    assert steps["predict/ltgc"].reads == ("weigh/ltgc", "predict/ltgc_1", "predict/zero_shot")
    assert steps["predict/zero_shot"].options["keeps_logits"]
    assert not steps_of()["predict/zero_shot"].options["keeps_logits"]
    for name in ("validate/zero_shot", "predict/zero_shot"):  # a run without its logits is not taken for one with them
        recipes = [load_recipe(QUICKSTART, [*PLAIN, f"ensemble.zero_shot={word}"]) for word in ("true", "false")]
        assert step_settings(steps[name], recipes[0]) != step_settings(steps[name], recipes[1])


def test_averaged_towers_are_one_model_of_their_ranks_together() -> None:
    steps = steps_of(*SOUP, "train.lora_rank=8", "train.lora_alpha=4", "ensemble.head_epochs=3")
    for side in ("control", "ltgc"):
        towers = [steps[f"train/{side}_{number}"] for number in (1, 2, 3)]
        assert [tower.overrides["train.max_imbalance"] for tower in towers] == [1, 2, 4]
        soup = steps[f"train/{side}"]
        assert soup.reads == tuple(tower.name for tower in towers)
        assert (soup.overrides["train.lora_rank"], soup.overrides["train.lora_alpha"]) == (24, 12)
        assert {soup.overrides[f"train.{key}"] for key in ("epochs", "real_epochs", "last_layer_epochs")} == {3}
        assert soup.overrides["train.max_imbalance"] is None  # the head trains on all originals
        assert steps[f"predict/{side}"].reads == (soup.name,) and f"predict/{side}_1" not in steps


def test_towers_that_are_trained_alike_have_a_seed_each() -> None:
    recipe = load_recipe(QUICKSTART, [*PLAIN, "ensemble.towers=4", "ensemble.mixing=union"])
    with_images, without = (tower_settings(recipe, with_generated) for with_generated in (True, False))
    assert [values.get("train.mixing") for values in with_images] == [None, "union", None, "union"]
    assert ["train_seed" in values for values in with_images] == [False, False, True, True]
    # The second control differs from the first only in how images are mixed that it does not have.
    assert ["train_seed" in values for values in without] == [False, True, True, True]
    assert len({values.get("train_seed") for values in without}) == 4


def test_a_key_of_another_loss_or_mixing_takes_its_default() -> None:
    recipe = load_recipe(QUICKSTART, [*PLAIN, *ENSEMBLE, "train.prior_scale=0.5", "train.replace_share=0.3"])
    (_, second) = tower_settings(recipe, with_generated=True)
    assert second == {
        "train.mixing": "balance_mix", "train.loss": "cross_entropy", "train.sampler": "balanced",
        "train.prior": "effective", "train.prior_scale": 1.0, "train.replace_share": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["ensemble.mixing=union"], "ensemble.mixing: is of every second tower, and there is one; remove it"),
        (["ensemble.distill=true"], "ensemble.distill: needs several members; write 'towers: 2'"),
        (["ensemble.zero_shot=true", "evaluate.zero_shot=false"], "ensemble.zero_shot: needs zero-shot CLIP"),
        (["ensemble.weights=equal"], "ensemble.weights: one tower has no weights"),
        ([*ENSEMBLE, "ensemble.prior=counts"], "ensemble.prior: 'counts' has no effect on loss 'cross_entropy'"),
        (["ensemble.towers=9"], "ensemble.towers: expected"),
        (
            [*ENSEMBLE, "ensemble.distill=true", "train.epochs=9", "train.real_epochs=4", "ensemble.distill_epochs=3"],
            "ensemble.distill_epochs: 3 leaves none for generated images",
        ),
        ([*SOUP, "train.head=frozen_text"], "ensemble.combine: trains the head of averaged towers"),
        (["ensemble.combine=towers"], "ensemble.combine: there is one tower; write 'towers: 2'"),
        ([*SOUP, "ensemble.tilt=true"], "ensemble.tilt: needs 'combine: predictions'"),
        (["ensemble.towers=2", "ensemble.subsets=true"], "ensemble.subsets: is of towers that are averaged"),
        (["ensemble.towers=2", "ensemble.head_epochs=3"], "ensemble.head_epochs: is of towers that are averaged"),
    ],
)
def test_keys_that_contradict_each_other_are_named(options: list[str], problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(QUICKSTART, [*PLAIN, *options])
    assert problem in str(caught.value)
