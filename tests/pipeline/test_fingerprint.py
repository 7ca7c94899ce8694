"""Fingerprints: what a change of the recipe makes out of date, and the message that says what to type."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.cli.text import stale_as_text
from ltgc_local.errors import ArtefactError
from ltgc_local.pipeline.fingerprint import StaleStep, check_fingerprint, fingerprint
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import LtgcRecipe, Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json

MakeRecipe = Callable[..., Recipe]
CARDS = Path(__file__).resolve().parents[2] / "model_cards"
DIGESTS = {"data": "d", "vlm": "v", "llm": "l", "t2i": "t", "clip": "c"}
FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}


def fingerprints(recipe: Recipe, folder: Path, digests: dict[str, str] = DIGESTS) -> dict[str, dict[str, Any]]:
    """Run a recipe whose every step writes its own fingerprint: what it reads is what it depends on."""
    run, found = RunDirectory(folder), {}
    for step in build_plan(recipe):
        found[step.name] = fingerprint(step, recipe, run, digests)
        run.write_chunk(step.name, 0, [Json("made", found[step.name])], FACTS)
        run.write_manifest(step.name, found[step.name], 1, 0)
    return found


def changed(make_recipe: MakeRecipe, folder: Path, *overrides: str, digests: dict[str, str] = DIGESTS) -> list[str]:
    before = fingerprints(make_recipe(), folder / "before")
    after = fingerprints(make_recipe(*overrides), folder / "after", digests)
    return [name for name in before if before[name] != after[name]]


def test_what_a_distilled_models_card_says_is_in_the_fingerprint_of_what_it_draws(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    cards = tmp_path / "cards"
    shutil.copytree(CARDS, cards)
    found = []
    for line in ("", "few_step:\n  steps: [30]\n  guidance: 5\n", "few_step:\n  steps: [30, 8]\n  guidance: 5\n"):
        card = (CARDS / "miniature-sdxl.md").read_text("utf-8").replace("image_size_px", f"{line}image_size_px")
        (cards / "miniature-sdxl.md").write_text(card, encoding="utf-8")
        found.append(fingerprints(make_recipe(f"models.cards={cards}"), tmp_path / f"run{len(found)}"))
    assert "few_step" not in found[0]["draw"]
    assert found[1]["draw"]["few_step"]["steps"] == [30]
    assert next(name for name in found[1] if found[1][name] != found[2][name]) == "draw"


@pytest.mark.parametrize(("key", "asked"), [("models.text_encoders", "8bit"), ("models.unet", "fp8")])
def test_a_quantised_part_redoes_what_is_drawn_and_is_nowhere_where_nobody_asks_for_it(
    make_recipe: MakeRecipe, tmp_path: Path, key: str, asked: str
) -> None:
    assert changed(make_recipe, tmp_path / "a", f"{key}={asked}")[0] == "draw"
    plain = fingerprints(make_recipe(), tmp_path / "b")
    assert not [found for each in plain.values() for found in each if key in found]


def test_a_tiny_decoder_redoes_what_is_drawn_only_where_a_recipe_asks_for_it(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    plain = fingerprints(make_recipe(), tmp_path / "plain")
    cards = tmp_path / "cards"
    shutil.copytree(CARDS, cards)
    card = (CARDS / "miniature-sdxl.md").read_text("utf-8")
    (cards / "miniature-sdxl.md").write_text(card.replace("image_size_px", "tiny_decoder: t\nimage_size_px"), "utf-8")
    assert fingerprints(make_recipe(f"models.cards={cards}"), tmp_path / "named") == plain
    asked = fingerprints(make_recipe(f"models.cards={cards}", "draw.decoder=tiny"), tmp_path / "asked")
    assert next(name for name in plain if plain[name] != asked[name]) == "draw"
    new = {key: value for key, value in asked["draw"].items() if key not in plain["draw"]}
    assert new == {"draw.decoder": "tiny", "tiny_decoder": "t"}


TESTED = [f"{kind}/{arm}" for kind in ("validate", "predict") for arm in ("control", "ltgc")]
TRAIN = ["train/control", "train/ltgc", *TESTED, "evaluate", "report"]


#: Keys of ``train`` that only change the speed, or which steps there are.
OF_GENERATED = {
    f"train.{key}"
    for key in ("mixing", "mix_form", "mix_alpha", "mix_beta", "replace_share", "joint_share", "mix_prior_scale")
}
UNSHAPING = {"control", "checkpoint_minutes", "in_memory_mib", "decode_workers"}


def train_changes() -> list[tuple[str, tuple[str, ...]]]:
    """One changed value for every key of ``train`` that shapes it, and what the key needs to have an effect."""
    values = {
        "epochs": 3, "batch_size": 64, "accumulation_steps": 2, "optimizer": "adamw", "lr": 0.5, "momentum": 0.5,
        "weight_decay": 0, "warmup_steps": 5, "ema": 0.9, "select": "best_val_all", "lora_rank": 4, "lora_alpha": 1,
        "lora_dropout": 0.5, "lora_targets": "attention", "head": "frozen_text", "head_scale": 10, "head_lr": 0.5,
        "mixing": "union", "mix_form": "mask", "mix_alpha": 2, "mix_beta": 2, "real_epochs": 1, "last_layer_epochs": 1,
        "loss": "logit_adjustment", "prior": "counts", "prior_scale": 0.5, "sampler": "instance", "augment": "none",
        "crop_scale": 0.5, "blur_px": 1, "noise": 0.1, "precision": "bf16", "gradient_checkpointing": "true",
        "compile": "default", "lora_blocks": 1, "replace_share": 0.25, "joint_share": 0.5, "mix_prior_scale": 0,
        "max_imbalance": 8,
    }  # fmt: skip
    needs = {
        "last_layer_epochs": ("train.real_epochs=1",),
        "prior": ("train.loss=logit_adjustment",),
        "prior_scale": ("train.loss=logit_adjustment",),
        "replace_share": ("train.mixing=replace",),
        "joint_share": ("train.mixing=joint",),
        "mix_prior_scale": ("train.mixing=joint", "train.loss=logit_adjustment"),
    }
    keys = set(type(LtgcRecipe.model_fields["train"].default).model_fields) - UNSHAPING
    assert keys == set(values)
    return [(f"train.{key}={value}", needs.get(key, ())) for key, value in values.items()]


@pytest.mark.parametrize(("override", "needed"), train_changes())
def test_a_key_of_train_redoes_training_and_what_follows(
    make_recipe: MakeRecipe, tmp_path: Path, override: str, needed: tuple[str, ...]
) -> None:
    before = fingerprints(make_recipe(*needed), tmp_path / "before")
    after = fingerprints(make_recipe(*needed, override), tmp_path / "after")
    of_generated = override.split("=")[0] in OF_GENERATED  # of which the control has none: it is not trained again
    redone = [s for s in TRAIN if not s.endswith("/control") or not of_generated]
    assert [name for name in before if before[name] != after[name]] == redone


@pytest.mark.parametrize(
    ("override", "first", "untouched"),
    [
        ("seed=1", "describe", set()),
        ("models.device=auto", "describe", set()),
        ("describe.max_images_per_class=50", "describe", {"assess/template", "train/control"}),
        ("extend.temperature=0.5", "extend", {"describe", "assess/template", "train/control"}),
        ("draw.steps=4", "draw", {"describe", "extend", "assess/template", "train/control"}),
        ("assess.percentile=10", "assess/0/detect", {"describe", "extend", "draw", "assess/template", "train/control"}),
        ("evaluate.five_crop=true", "predict/zero_shot", {"generated", "train/ltgc", "train/control"}),
        ("evaluate.resamples=100", "evaluate", {"generated", "train/ltgc", "train/control", "predict/ltgc"}),
        ("report.images_per_class=3", "report", {"generated", "train/ltgc", "evaluate"}),
    ],
)
def test_a_key_redoes_its_stage_and_not_what_came_before(
    make_recipe: MakeRecipe, tmp_path: Path, override: str, first: str, untouched: set[str]
) -> None:
    redone = changed(make_recipe, tmp_path, override)
    assert redone[0] == first
    assert "report" in redone
    assert not untouched & set(redone)


def test_a_seed_of_the_training_redoes_the_training_alone(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    assert changed(make_recipe, tmp_path / "a", "train_seed=5") == TRAIN
    assert changed(make_recipe, tmp_path / "b", "train_seed=0") == []  # as ``seed`` says already
    other = fingerprints(make_recipe("seed=5"), tmp_path / "c")
    both = fingerprints(make_recipe("seed=2", "train_seed=5"), tmp_path / "d")
    assert both["train/control"] == other["train/control"]  # nothing that it reads depends on ``seed``
    same = [name for name in both if both[name] == other[name]]
    tested = [f"{kind}/{arm}" for kind in ("validate", "predict") for arm in ("zero_shot", "control")]
    assert same == ["leaks/originals", "train/control", *tested]


@pytest.mark.parametrize(
    "override",
    [
        "draw.batch_size=3",
        "assess.batch_size=3",
        "evaluate.batch_size=3",
        "name=other",
        "train.decode_workers=2",
        "train.checkpoint_minutes=0",
        "train.in_memory_mib=0",
    ],
)
def test_what_only_changes_the_speed_or_the_name_redoes_nothing(
    make_recipe: MakeRecipe, tmp_path: Path, override: str
) -> None:
    assert changed(make_recipe, tmp_path, override) == []


def test_other_weights_redo_the_steps_of_that_role_and_what_follows(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    redone = changed(make_recipe, tmp_path / "clip", digests=DIGESTS | {"clip": "other"})
    assert redone[0] == "assess/0/detect" and {"train/control", "report"} <= set(redone)
    assert "draw" not in redone
    everything = [step.name for step in build_plan(make_recipe())]
    assert changed(make_recipe, tmp_path / "data", digests=DIGESTS | {"data": "other"}) == everything


def test_a_step_is_complete_once_its_manifest_has_its_fingerprint(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run, recipe = RunDirectory(tmp_path / "run"), make_recipe()
    step = build_plan(recipe)[0]
    wanted = fingerprint(step, recipe, run, DIGESTS)
    assert check_fingerprint(step, wanted, run) is False
    run.begin("describe", wanted)
    assert check_fingerprint(step, wanted, run) is False  # goes on with it
    run.write_manifest("describe", wanted, 0, 0)
    assert check_fingerprint(step, wanted, run) is True


@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_an_error_that_names_key_and_commands(
    make_recipe: MakeRecipe, tmp_path: Path, complete: bool
) -> None:
    run, recipe = RunDirectory(tmp_path / "run"), make_recipe()
    step = next(step for step in build_plan(recipe) if step.name == "assess/1/detect")
    made = fingerprint(step, recipe, run, DIGESTS)
    run.begin(step.name, made)
    if complete:
        run.write_manifest(step.name, made, 0, 0)
    with pytest.raises(StaleStep) as caught:
        check_fingerprint(step, made | {"assess.percentile": 10.0, "new": True}, run)
    assert caught.value.changes == {"assess.percentile": (5.0, 10.0), "new": (None, True)}
    text = stale_as_text(caught.value, "ltgc-local run x.yaml", tmp_path / "my runs")
    assert text.replace(str(tmp_path), "/TMP") == (
        "/TMP/run/assess/1/detect: step assess/1/detect was made with other settings:\n"
        "  assess.percentile: 5.0 -> 10.0\n"
        "  new: null -> true\n"
        "to redo it and what follows (the present files are kept under /TMP/run/superseded), type:\n"
        "  ltgc-local run x.yaml --out '/TMP/my runs' --from assess\n"
        "to keep this run and start another, type:\n"
        "  ltgc-local run x.yaml --out '/TMP/my runs-2'"
    )


def test_a_damaged_note_of_what_was_begun_names_the_step(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run, recipe = RunDirectory(tmp_path / "run"), make_recipe()
    step = build_plan(recipe)[0]
    run.begin(step.name, {})
    (run.folder("describe") / "begun.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"begun\.json: damaged: .* type: ltgc-local repair .*/run"):
        check_fingerprint(step, {}, run)


def test_a_clip_beside_the_model_that_draws_redoes_what_is_drawn_and_is_nowhere_where_nobody_asks_for_it(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    plain = fingerprints(make_recipe(), tmp_path / "plain")
    asked = fingerprints(make_recipe("draw.clip_features=true"), tmp_path / "asked")
    drawing = [name for name in plain if name.split("/")[-1] in ("draw", "redraw")]
    assert len(drawing) == 3
    for name in plain:
        assert not [key for key in plain[name] if "co-resident" in key or "clip_features" in key]
    for name in drawing:
        new = {key: value for key, value in asked[name].items() if key not in plain[name]}
        assert new == {
            "co-resident model": "c",
            "co-resident models.backend": "open_clip",
            "models.clip": "miniature-vit",
        }
    assert next(name for name in plain if plain[name] != asked[name]) == "draw"
    other = fingerprints(make_recipe("draw.clip_features=true"), tmp_path / "other", DIGESTS | {"clip": "other"})
    assert other["draw"] != asked["draw"]
    assert other["extend"] == asked["extend"]
