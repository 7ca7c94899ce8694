"""The full-size recipes validate and plan on mock-ups of the benchmarks' trees, with the right number to draw.

ImageNet-LT's mock-up has the true numbers of images a class; those of the others are made up to meet the published
figures (tests/datasets/mock_ups.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from ltgc_local.cli import main
from ltgc_local.cli.text import plan_as_text
from ltgc_local.datasets import open_corpus
from ltgc_local.methods.ltgc.scorers import ClassScorer
from ltgc_local.methods.registry import method_of
from ltgc_local.pipeline.preview import plan_as_dict
from ltgc_local.recipe import load_recipe, load_recipes
from tests.datasets.mock_ups import CROP_MOCK_UPS, MOCK_UPS

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
Options = dict[str, list[str]]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Benchmark -> the options that lead its recipe to the mock-up."""
    found = {}
    for benchmark, write in MOCK_UPS.items():
        images, lists = write(tmp_path_factory.mktemp(benchmark))
        found[benchmark] = [f"data.root={images}", f"data.lists={lists}"]
    return found


@pytest.mark.parametrize(
    ("benchmark", "tail_below", "num_classes", "num_to_draw"),
    [
        ("imagenet_lt", 100, 609, 156_147),
        ("imagenet_lt", 20, 136, 39_157),
        ("places_lt", 100, 234, 176_762),
        ("places_lt", 20, 71, 55_996),
    ],
)
def test_the_number_of_images_to_draw(
    options: Options, benchmark: str, tail_below: int, num_classes: int, num_to_draw: int
) -> None:
    recipe = load_recipe(RECIPES / f"{benchmark}.yaml", [*options[benchmark], f"describe.tail_below={tail_below}"])
    plan = plan_as_dict(recipe)
    assert (len(plan["to_draw"]), plan["num_to_draw"]) == (num_classes, num_to_draw)
    assert f"to generate: {num_to_draw} images (" in plan_as_text(plan)
    assert f"for each of {num_classes} tail classes)" in plan_as_text(plan)


@pytest.mark.parametrize(
    ("benchmark", "max_descriptions", "threshold"),
    [("imagenet_lt", 300, 0.8), ("places_lt", 800, 0.8), ("inaturalist18", 100, 0.6)],
)
def test_k_y_and_mu_are_the_papers_and_decide_how_many_are_drawn_and_accepted(
    options: Options, benchmark: str, max_descriptions: int, threshold: float
) -> None:
    path, preset = RECIPES / f"{benchmark}.yaml", RECIPES / "presets/faithful.yaml"
    written = yaml.safe_load(path.read_text("utf-8"))  # not by the schema's defaults, two of which are the same
    assert written["extend"]["max_descriptions"] == max_descriptions
    assert written["assess"]["threshold"] == threshold
    assert written["assess"]["margin_rank"] is None  # no number was measured among so many classes
    (recipe,) = load_recipes(path, options[benchmark], presets=[preset]).rows.values()
    method, corpus = method_of(recipe), open_corpus(recipe.data)
    counts = corpus.class_counts()
    # A class has at most 99 images, all of them described: N_y = K_y - n_y.
    assert method.budget(corpus, recipe) == {c: max_descriptions - n for c, n in counts.items() if n < 100}
    # The released code's rule, which the preset takes: cosine + 0.5 >= mu.
    scorer = ClassScorer(recipe.assess, 0, np.zeros(0), np.zeros(0, np.int64))
    failed = [scorer.score((0, 0, 0), np.array([cosine])).failed for cosine in (threshold - 0.49, threshold - 0.51)]
    assert failed == [(), ("offset",)]


@pytest.mark.parametrize("benchmark", MOCK_UPS)
def test_validate_and_plan_from_the_command_line(options: Options, benchmark: str) -> None:
    recipe, sets = str(RECIPES / f"{benchmark}.yaml"), [w for each in options[benchmark] for w in ("--set", each)]
    validated = CliRunner().invoke(main, ["validate", recipe, *sets])
    assert (validated.exit_code, f"fine (ltgc on {benchmark}" in validated.output) == (0, True), validated.output
    planned = CliRunner().invoke(main, ["plan", recipe, *sets])
    assert planned.exit_code == 0, planned.output
    assert len(planned.output.splitlines()) < 40
    assert ("val is the test split" in planned.output) is (benchmark == "inaturalist18")


@pytest.mark.parametrize("benchmark", MOCK_UPS)
def test_a_fast_recipe_draws_as_many_images_and_differs_in_nothing_but_how(options: Options, benchmark: str) -> None:
    whole, fast = (load_recipe(RECIPES / f"{benchmark}{end}.yaml", options[benchmark]) for end in ("", "_fast"))
    assert fast.model_copy(update={"name": whole.name, "draw": whole.draw}) == whole
    assert (fast.draw.size_px, fast.draw.steps, fast.draw.cache_interval) == (768, 16, 2)
    assert fast.draw.stored_size_px == whole.draw.stored_size_px == 256
    assert plan_as_dict(fast)["to_draw"] == plan_as_dict(whole)["to_draw"]


def test_without_the_data_validate_says_where_it_belongs() -> None:
    # root and lists are missing in a fresh clone
    missing = CliRunner().invoke(main, ["validate", str(RECIPES / "imagenet_lt.yaml"), "--set", "data.root=/not/here"])
    assert missing.exit_code == 2
    guide = RECIPES.parent / "data/README.md"
    assert f"data.root: no folder /not/here; {guide} says what belongs there" in missing.output


def test_keys_that_have_no_effect_are_conflicts(options: Options) -> None:
    sets = [w for each in [*options["imagenet_lt"], "data.imbalance=50"] for w in ("--set", each)]
    refused = CliRunner().invoke(main, ["validate", str(RECIPES / "imagenet_lt.yaml"), *sets])
    assert refused.exit_code == 2
    assert (
        "data.imbalance: has no effect on imagenet_lt; only cifar10_lt, cifar100_lt use it: remove it" in refused.output
    )


def test_lists_of_another_benchmark_exit_with_4(options: Options) -> None:
    sets = [options["imagenet_lt"][0], options["places_lt"][1]]
    refused = CliRunner().invoke(
        main, ["plan", str(RECIPES / "imagenet_lt.yaml"), *[w for each in sets for w in ("--set", each)]]
    )
    assert refused.exit_code == 4
    assert "ImageNet_LT_train.txt: not there" in refused.output


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """The same for TGN's benchmarks, whose lists lie in the tree."""
    return {
        benchmark: [f"data.root={write(tmp_path_factory.mktemp(benchmark))[0]}"]
        for benchmark, write in CROP_MOCK_UPS.items()
    }


@pytest.mark.parametrize(
    ("benchmark", "num_tail", "num_each"), [("dior", 12, 7000), ("fgsc23", 16, 1000), ("dota", 9, 7000)]
)
def test_tgns_budgets_and_steps(crops: Options, benchmark: str, num_tail: int, num_each: int) -> None:
    recipe = load_recipe(RECIPES / f"tgn_{benchmark}.yaml", crops[benchmark])
    plan = plan_as_dict(recipe)
    assert set(plan["to_draw"].values()) == {num_each}
    assert (len(plan["to_draw"]), plan["num_to_draw"]) == (num_tail, num_tail * num_each)
    assert set(plan["models"]) == {"clip", "backbone"}
    assert plan["models"]["backbone"]["backend"] == "timm"
    # The paper's and the released code's numbers, which are the defaults.
    kmdn, cdtg = recipe.kmdn, recipe.cdtg
    assert (kmdn.architecture, kmdn.epochs, kmdn.distill_epochs, kmdn.distill_interval) == ("resnet50", 100, 100, 50)
    assert (kmdn.feature, kmdn.feature_weight, kmdn.distill_batch_size) == ("layer3", 0.2, 64)
    assert (cdtg.size_px, cdtg.steps, cdtg.batch_size, cdtg.r_train, cdtg.r) == (256, 200_000, 8, 0.8, 0.05)
    assert (recipe.classifier.epochs, recipe.classifier.batch_size, recipe.classifier.lr) == (50, 32, 1e-3)


@pytest.mark.parametrize("benchmark", CROP_MOCK_UPS)
def test_tgns_recipes_validate_and_plan_from_the_command_line(crops: Options, benchmark: str) -> None:
    recipe, sets = str(RECIPES / f"tgn_{benchmark}.yaml"), [w for each in crops[benchmark] for w in ("--set", each)]
    for more in ([], ["--preset", str(RECIPES / "presets/tgn_released.yaml")]):
        validated = CliRunner().invoke(main, ["validate", recipe, *sets, *more])
        assert (validated.exit_code, f"fine (tgn on {benchmark}" in validated.output) == (0, True), validated.output
        planned = CliRunner().invoke(main, ["plan", recipe, *sets, *more])
        assert planned.exit_code == 0, planned.output
        assert ("val is the test split" in planned.output) is bool(more)
        assert "kmdn/distill" in planned.output and len(planned.output.splitlines()) < 40
