"""Shipped recipes are listed, shown and copied, and a copy means the same as the original."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ltgc_local.cli import main
from ltgc_local.errors import RecipeError
from ltgc_local.recipe import Recipe, load_recipe, load_recipes
from ltgc_local.shipped import resolve_shipped

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(path.relative_to(ROOT / "recipes").with_suffix("").as_posix() for path in ROOT.glob("recipes/**/*.yaml"))


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_every_recipe_is_listed_with_its_purpose_and_whole_recipes_come_first() -> None:
    lines = call("recipes", "ls").stdout.splitlines()
    names, purposes = zip(*(line.split(maxsplit=1) for line in lines), strict=True)
    assert sorted(names) == NAMES and len(purposes) == len(names)
    tables = [name for name in names if "/" in name]
    assert list(names[-len(tables) :]) == tables
    for name, purpose in zip(names, purposes, strict=True):
        lines = (ROOT / f"recipes/{name}.yaml").read_text("utf-8").splitlines()
        header = " ".join(" ".join(line.lstrip("#") for line in lines if line.startswith("#")).split())
        end = " " if purpose.endswith("?") else ". "
        assert header.startswith(f"What {purpose}{end}"), name  # its first sentence, whole


def test_a_recipe_is_shown_as_it_is_written() -> None:
    assert call("recipes", "show", "paper/table5").stdout == (ROOT / "recipes/paper/table5.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("destination", "target"),
    [((), "quickstart.yaml"), (("new/folder",), "new/folder/quickstart.yaml"), (("my run.yaml",), "my run.yaml")],
)
def test_a_recipe_is_copied_as_it_is_and_never_over_another(
    empty: Path, destination: tuple[str, ...], target: str
) -> None:
    result = call("recipes", "cp", "quickstart", *destination)
    assert result.exit_code == 0
    quoted = f"'{target}'" if " " in target else target
    assert result.stdout == (
        f"{target}: copied; next, type:\n  ltgc-local validate {quoted}\n  ltgc-local run {quoted}\n"
    )
    assert (empty / target).read_bytes() == (ROOT / "recipes/quickstart.yaml").read_bytes()
    (empty / target).write_text("mine")
    again = call("recipes", "cp", "quickstart.yaml", *destination)
    assert again.exit_code == 2 and again.stderr.startswith(f"{target}: exists already, and is not overwritten")
    assert (empty / target).read_text() == "mine"


@pytest.mark.parametrize("command", ["show", "cp"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("table5", "did you mean 'paper/table5'?"),
        ("zzz", "type: ltgc-local recipes ls"),
        ("../model_cards/qwen3-8b.md", "type: ltgc-local recipes ls"),
    ],
)
def test_an_unknown_recipe_is_exit_code_2_with_a_hint(empty: Path, command: str, name: str, hint: str) -> None:
    result = call("recipes", command, name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"no recipe '{name}' comes with ltgc-local; {hint}\n"
    assert not list(empty.iterdir())


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("presets/")])
def test_a_copy_means_what_the_original_does(empty: Path, name: str) -> None:
    """All settings except the user's own paths, which are relative to the recipe's folder."""
    assert call("recipes", "cp", name).exit_code == 0
    copy, original = empty / f"{Path(name).name}.yaml", ROOT / f"recipes/{name}.yaml"
    expected = load_recipes(original, check_files=False).rows
    if next(iter(expected.values())).data.benchmark == "fashion_mnist_lt":
        assert load_recipes(copy).rows == expected
    else:
        found = load_recipes(copy, check_files=False).rows
        assert list(map(_without_paths, found.values())) == list(map(_without_paths, expected.values()))


def _without_paths(recipe: Recipe) -> Recipe:
    data = recipe.data.model_copy(update={"root": Path(), "lists": None, "class_names": None})
    return recipe.model_copy(update={"data": data})


@pytest.mark.parametrize(("name", "recipe"), [("faithful", "quickstart"), ("tgn_released", "tgn_dior")])
def test_a_copied_preset_changes_what_the_original_does(empty: Path, name: str, recipe: str) -> None:
    assert f"ltgc-local run RECIPE --preset {name}.yaml\n" in call("recipes", "cp", f"presets/{name}").stdout
    path = f"shipped:recipes/{recipe}.yaml"
    found, expected, plain = (
        load_recipes(path, presets=presets, check_files=False).rows
        for presets in ([empty / f"{name}.yaml"], [ROOT / f"recipes/presets/{name}.yaml"], [])
    )
    assert found == expected != plain


def test_shipped_locations_start_at_what_comes_with_the_program_and_stay_there() -> None:
    assert resolve_shipped("shipped:data/fashion_mnist_lt") == f"{ROOT}/data/fashion_mnist_lt"
    assert resolve_shipped(Path("shipped:recipes/quickstart.yaml")) == f"{ROOT}/recipes/quickstart.yaml"
    for text in (
        "../model_cards",
        "/data",
        "shipped:../model_cards",
        "shipped:data/../..",
        "shipped:/etc",
        "./shipped:x",
    ):
        assert resolve_shipped(text) == text


def test_recipes_and_options_may_name_shipped_locations(empty: Path) -> None:
    """A recipe, its base, a preset, and a path that is set."""
    (empty / "mine.yaml").write_text("name: mine\nbase: shipped:recipes/quickstart.yaml\ndata: {root: here}\n")
    with pytest.raises(RecipeError, match=r"^mine\.yaml:3: data\.root: no folder .*/here; "):
        load_recipe("mine.yaml")
    (mine,) = load_recipes(
        "mine.yaml",
        ["data.root=shipped:data/fashion_mnist_lt"],
        presets=[Path("shipped:recipes/presets/faithful.yaml")],
    ).rows.values()
    assert (mine.data.root, mine.models.cards) == (ROOT / "data/fashion_mnist_lt", ROOT / "model_cards")
    assert mine.assess.scorer == "offset"
    table, base = "shipped:recipes/paper/table1.yaml", Path("shipped:recipes/tgn_quickstart.yaml")
    assert load_recipes(table).rows["ltgc"].method == "ltgc"
    with pytest.raises(RecipeError, match="train: "):  # TGN has no such block
        load_recipes(table, base=base)


def test_a_location_that_climbs_out_is_an_ordinary_path_and_not_there(empty: Path) -> None:
    with pytest.raises(RecipeError, match=f"no folder {empty}/shipped:../model_cards|no folder {empty}/model_cards"):
        load_recipe("shipped:recipes/quickstart.yaml", ["models.cards=shipped:../model_cards"])
