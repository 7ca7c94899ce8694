"""Every recipe that is shipped loads, plans, and says how to launch it; so does every row of every table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ltgc_local.cli.text import plan_as_text
from ltgc_local.pipeline.preview import plan_as_dict
from ltgc_local.recipe import load_recipe, load_recipes
from tests.datasets.mock_ups import CROP_MOCK_UPS, MOCK_UPS

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
ALL = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.yaml"))
PRESETS = [name for name in ALL if name.startswith("presets/")]
TABLES = [name for name in ALL if name.startswith(("paper/", "controls/"))]
RECIPES = [name for name in ALL if name not in PRESETS + TABLES]


def test_the_quickstart_is_shipped() -> None:
    assert "quickstart.yaml" in RECIPES


@pytest.fixture(scope="module")
def mock_ups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Benchmark -> the options that lead a recipe to a mock-up of data that cannot be shipped."""
    folders = {name: write(tmp_path_factory.mktemp(name)) for name, write in (MOCK_UPS | CROP_MOCK_UPS).items()}
    return {name: [f"data.root={images}", f"data.lists={lists}"] for name, (images, lists) in folders.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_it_loads_and_plans(name: str, mock_ups: dict[str, list[str]]) -> None:
    benchmark = load_recipe(FOLDER / name, check_files=False).data.benchmark
    recipe = load_recipe(FOLDER / name, mock_ups.get(benchmark, []))
    plan = plan_as_dict(recipe)
    assert [step["name"] for step in plan["steps"]][-1] == "report"
    assert plan["num_to_draw"] == sum(plan["to_draw"].values()) > 0
    assert recipe.name == Path(name).stem
    for step in plan["steps"]:
        assert step["name"] in plan_as_text(plan)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_a_table_loads_and_plans(name: str) -> None:
    table = load_recipes(FOLDER / name)
    assert table.is_table and table.rows
    for recipe in table.rows.values():
        # 322 by the quickstart's descriptions; of TGN 6 tail classes of 307 images brought to 200 each, less one row's
        assert plan_as_dict(recipe)["num_to_draw"] == {"ltgc": 322, "tgn": 6 * 200 - 307}[recipe.method]


def test_no_two_tables_share_a_run_directory() -> None:
    names = [re.findall("(?m)^name: (.*)$", (FOLDER / name).read_text("utf-8"))[0] for name in TABLES]
    assert len(set(names)) == len(names) >= 8


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_over_a_recipe_and_is_a_row_of_the_table_of_presets(name: str) -> None:
    if name.startswith("presets/tgn"):
        dior = load_recipes(FOLDER / "tgn_dior.yaml", presets=[FOLDER / name], check_files=False)
        (preset,) = dior.rows.values()
        assert (preset.cdtg.behaviour, preset.kmdn.select, preset.data.val_percent) == ("released", "last", 0)
        return
    (preset,) = load_recipes(FOLDER / "quickstart.yaml", presets=[FOLDER / name]).rows.values()
    row = load_recipes(FOLDER / "controls/presets.yaml").rows[Path(name).stem]
    assert preset.model_copy(update={"name": row.name}) == row


@pytest.mark.parametrize("name", ALL)
def test_its_header_says_how_to_launch_it_and_it_fits_a_page(name: str) -> None:
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert lines[0].startswith("# What")
    launch = f"--preset recipes/{name}" if name in PRESETS else f"ltgc-local run recipes/{name}"
    assert launch in header
    assert len(lines) <= 60


def test_the_quickstart_draws_what_its_classes_lack() -> None:
    # Classes below 100 images: 77, 46, 28, 17 and 10; up to 100 each: 23 + 54 + 72 + 83 + 90 = 322.
    plan = plan_as_dict(load_recipe(FOLDER / "quickstart.yaml", ["extend.max_descriptions=100"]))
    assert sorted(plan["to_draw"].values()) == [23, 54, 72, 83, 90]
    assert plan["num_to_draw"] == 322
    assert plan["classes"] == {"many": 5, "medium": 3, "few": 2}
    assert plan["images"] == {"train": 2480, "val": 1000, "test": 10000}


def test_a_full_size_recipe_of_tgn_is_switched_to_diffusion_by_its_generator_and_a_model(
    mock_ups: dict[str, list[str]],
) -> None:
    switch = ["generator=diffusion", "cdtg=null", "models.t2i=stable-diffusion-xl-base-1.0", *mock_ups["dior"]]
    plan = plan_as_dict(load_recipe(FOLDER / "tgn_dior.yaml", switch))
    assert set(plan["models"]) == {"t2i", "clip", "backbone"}
    assert "diffusion/train" in [step["name"] for step in plan["steps"]]
