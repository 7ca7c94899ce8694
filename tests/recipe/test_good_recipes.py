"""What a good recipe means: defaults, paths, bases, options, numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ltgc_local.recipe import Recipe, load_recipe


def load(text: str, *overrides: str) -> Recipe:
    path = Path("recipes/x.yaml")
    path.write_text(text)
    return load_recipe(path, overrides)


def test_a_short_recipe_takes_every_default(workplace: Path) -> None:
    recipe = load_recipe(workplace / "recipes/good.yaml")
    assert (recipe.name, recipe.method, recipe.seed) == ("good", "ltgc", 0)
    assert (recipe.extend.max_descriptions, recipe.assess.scorer, recipe.train.mixing) == (
        300,
        "percentile",
        "balance_mix",
    )


def test_paths_start_at_the_recipes_folder(workplace: Path) -> None:
    recipe = load_recipe("recipes/good.yaml")
    assert recipe.data.root == workplace / "data"
    assert recipe.models.cards == workplace / "cards"


def test_paths_of_an_option_start_at_the_current_folder(workplace: Path) -> None:
    (workplace / "more").mkdir()
    assert load_recipe("recipes/good.yaml", ["data.root=more"]).data.root == workplace / "more"


def test_paths_that_may_be_null_start_there_too(workplace: Path) -> None:
    (workplace / "lists").mkdir()
    (workplace / "names.txt").write_text("cat\n")
    good = (workplace / "recipes/good.yaml").read_text()
    assert load(good).data.lists is None
    more = "  benchmark: list_files\n  lists: ../lists\n  class_names: ../names.txt\n"
    data = load(good.replace("data:\n", f"data:\n{more}", 1)).data
    assert (data.lists, data.class_names) == (workplace / "lists", workplace / "names.txt")


def test_paths_of_a_base_start_at_the_bases_folder(workplace: Path) -> None:
    (workplace / "recipes/ablations").mkdir()
    path = workplace / "recipes/ablations/a.yaml"
    path.write_text("name: a\nbase: ../good.yaml\n")
    assert load_recipe(path).data.root == workplace / "data"


def test_a_recipe_is_laid_over_its_base_key_by_key(workplace: Path) -> None:
    base = (
        workplace / "recipes/good.yaml"
    ).read_text() + "seed: 5\ntrain:\n  lr: 0.5\n  epochs: 2\ndraw:\n  steps: 4\n"
    (workplace / "recipes/b.yaml").write_text(base)
    recipe = load("base: b.yaml\nname: x\ntrain:\n  epochs: 3\ndraw:\n")
    assert recipe.name == "x"
    assert (recipe.seed, recipe.train.lr, recipe.train.epochs, recipe.draw.steps) == (5, 0.5, 3, 4)


@pytest.mark.parametrize("written", ["3e-4", "3E-4", "+3e-4", "0.0003", ".0003", "3.e-4"])
def test_every_way_to_write_a_number_is_a_number(workplace: Path, written: str) -> None:
    good = (workplace / "recipes/good.yaml").read_text()
    assert load(f"{good}train:\n  lr: {written}\n").train.lr == pytest.approx(3e-4)
    assert load(good, f"train.lr={written}").train.lr == pytest.approx(3e-4)


def test_a_whole_number_will_do_for_a_number_and_underscores_are_allowed(workplace: Path) -> None:
    recipe = load((workplace / "recipes/good.yaml").read_text() + "seed: 1_000\ntrain:\n  lr: 1\n")
    assert recipe.seed == 1000
    assert recipe.train.lr == 1.0 and isinstance(recipe.train.lr, float)


@pytest.mark.parametrize(("written", "meant"), [("yes", True), ("On", True), ("false", False), ("NO", False)])
def test_yaml_words_for_truth_are_accepted(workplace: Path, written: str, meant: bool) -> None:
    assert load((workplace / "recipes/good.yaml").read_text(), f"train.control={written}").train.control is meant


def test_options_reach_blocks_that_are_not_written_and_the_last_counts(workplace: Path) -> None:
    recipe = load_recipe(
        "recipes/good.yaml", ["name=2024-01-01", "train.epochs=3", "train.epochs=4", 'draw.negative_prompt=""']
    )
    assert recipe.name == "2024-01-01"
    assert recipe.train.epochs == 4
    assert recipe.draw.negative_prompt == ""


@pytest.mark.parametrize("written", ["percentile+margin", "margin+percentile", "margin + percentile"])
def test_scorers_are_joined_by_plus_in_any_order(workplace: Path, written: str) -> None:
    good = (workplace / "recipes/good.yaml").read_text()
    assert load(f"{good}assess:\n  scorer: {written}\n").assess.scorer == "percentile+margin"
    assert load(good, f"assess.scorer={written}").assess.scorer == "percentile+margin"


def test_null_is_allowed_where_the_default_is_null(workplace: Path) -> None:
    good = (workplace / "recipes/good.yaml").read_text()
    assert load(good + "draw:\n  stored_size_px: 28\n", "draw.stored_size_px=null").draw.stored_size_px is None


def test_anchors_and_a_byte_order_mark_are_fine(workplace: Path) -> None:
    good = (workplace / "recipes/good.yaml").read_text()
    text = good.replace("see", "&v see") + "draw:\n  negative_prompt: *v\n"
    assert load("\ufeff" + text).draw.negative_prompt == "see"


def test_missing_files_can_be_left_unchecked(workplace: Path) -> None:
    text = (workplace / "recipes/good.yaml").read_text().replace("../data", "/not/here").replace("see", "unknown")
    Path("recipes/x.yaml").write_text(text)
    recipe = load_recipe("recipes/x.yaml", check_files=False)
    assert (str(recipe.data.root), recipe.models.vlm) == ("/not/here", "unknown")


def test_a_dumped_recipe_loads_as_the_same(workplace: Path) -> None:
    recipe = load_recipe("recipes/good.yaml", ["train.head_lr=1e-3"])
    dumped = recipe.dump()
    assert json.loads(json.dumps(dumped)) == dumped
    assert load(yaml.safe_dump(dumped)) == recipe
    assert load(json.dumps(dumped)) == recipe


def test_the_shipped_layers_import_nothing_heavy() -> None:
    code = (
        "import sys, ltgc_local.recipe, ltgc_local.model_store.folders, ltgc_local.datasets\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'open_clip', 'peft', 'datasets', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
