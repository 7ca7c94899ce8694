"""Seeds are names' seeds: the same on every machine, whatever the order."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.datasets import open_corpus
from ltgc_local.methods.stage import stage_class
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import load_recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.progress import Progress
from ltgc_local.seeding import item_seed

RECIPES = Path(__file__).resolve().parents[1] / "recipes"

NAMES = st.lists(st.text("abc0123456789_", min_size=1) | st.integers(0, 9999), max_size=4)


def test_a_seed_never_changes_because_runs_are_made_again_from_it() -> None:
    # sha256("0/draw/7/3/0"), its first 8 bytes as a big-endian number, without its lowest bit.
    assert item_seed(0, "draw", 7, 3, 0) == int(hashlib.sha256(b"0/draw/7/3/0").hexdigest()[:16], 16) // 2
    assert item_seed(0, "draw", 7, 3, 0) == 5973669564383182314


def test_seeds_do_not_depend_on_what_was_asked_before() -> None:
    keys = [(class_id, number) for class_id in range(5) for number in range(5)]
    forwards = {key: item_seed(1, *key) for key in keys}
    backwards = {key: item_seed(1, *key) for key in reversed(keys)}
    assert forwards == backwards
    assert len(set(forwards.values())) == 25


def test_the_run_seed_and_every_part_of_the_name_count() -> None:
    seeds = [item_seed(0, "draw", 1, 2), item_seed(1, "draw", 1, 2), item_seed(0, "train", 1, 2)]
    seeds += [item_seed(0, "draw", 2, 1), item_seed(0, "draw", 12), item_seed(0, "draw", 1, 2, 0)]
    assert len(set(seeds)) == 6


@given(st.integers(0, 2**63 - 1), NAMES)
def test_seeds_fit_torch_and_numpy(run_seed: int, names: list[str | int]) -> None:
    assert 0 <= item_seed(run_seed, *names) < 2**63


@pytest.mark.parametrize("name", ["quickstart", "tgn_quickstart", "tgn_diffusion_quickstart"])
def test_the_trainings_that_are_evaluated_have_a_seed_of_their_own(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml", ["seed=3", "train_seed=5"])
    corpus, found = open_corpus(recipe.data), {}
    for step in build_plan(recipe):
        stage = stage_class(step)(recipe, step, RunDirectory(tmp_path), Progress("x"), corpus=corpus)
        found[step.name] = next(seed for seed in (3, 5, 0) if stage.seed("item", 1) == item_seed(seed, "item", 1))
    trained = {step for step in found if step.startswith("train/")}
    assert {step.split("/")[1].partition("_")[0] for step in trained} == {recipe.method, "control"}
    assert {step for step, seed in found.items() if seed == 5} == trained
    assert {found[step] for step in ("generated", "evaluate")} == {3}
