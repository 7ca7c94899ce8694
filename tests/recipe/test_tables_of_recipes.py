"""Tables: rows on top of a base recipe, presets and options; and each problem with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltgc_local.errors import RecipeError
from ltgc_local.recipe import Recipes, load_recipe, load_recipes

TABLE = """\
name: table
base: good.yaml
train: {lr: 0.5}
rows:
  plain:
  mixed:
    train: {mixing: union}
    assess: {attempts: 1}
"""


def load(text: str, *overrides: str, base: str | None = None, presets: tuple[str, ...] = ()) -> Recipes:
    path = Path("recipes/x.yaml")
    path.write_text(text)
    return load_recipes(path, overrides, base=Path(base) if base else None, presets=[Path(p) for p in presets])


def problems(text: str, *overrides: str, base: str | None = None, presets: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides, base=base, presets=presets)
    return str(caught.value).splitlines()


def test_a_row_is_the_base_with_the_tables_keys_and_its_own_over_it(workplace: Path) -> None:
    table = load(TABLE)
    assert (table.name, table.is_table, list(table.rows)) == ("table", True, ["plain", "mixed"])
    plain, mixed = table.rows.values()
    assert (plain.name, plain.train.lr, plain.train.mixing, plain.assess.attempts) == ("plain", 0.5, "balance_mix", 3)
    assert (mixed.name, mixed.train.lr, mixed.train.mixing, mixed.assess.attempts) == ("mixed", 0.5, "union", 1)
    assert plain.data.root == workplace / "data"


def test_one_recipe_is_a_single_row_under_its_name(workplace: Path) -> None:
    recipes = load((workplace / "recipes/good.yaml").read_text())
    assert (recipes.name, recipes.is_table, list(recipes.rows)) == ("good", False, ["good"])


def test_an_option_changes_every_row_and_wins_over_it(workplace: Path) -> None:
    rows = load(TABLE, "train.mixing=none", "train.control=false", "seed=7", "name=other")
    assert rows.name == "other"
    assert [(r.train.mixing, r.seed, r.name) for r in rows.rows.values()] == [
        ("none", 7, "plain"),
        ("none", 7, "mixed"),
    ]


def test_another_base_may_be_given_and_may_have_a_base_itself(workplace: Path) -> None:
    Path("recipes/big.yaml").write_text("name: big\nbase: good.yaml\ndraw: {steps: 5}\ntrain: {epochs: 3, lr: 0.1}\n")
    rows = load(TABLE, base="recipes/big.yaml").rows
    assert {(r.draw.steps, r.train.epochs, r.train.lr) for r in rows.values()} == {(5, 3, 0.5)}


def test_a_preset_lies_over_a_recipe_and_under_a_tables_rows(workplace: Path) -> None:
    Path("preset.yaml").write_text("train: {mixing: none, control: false, lr: 0.25}\nassess: {attempts: 2}\n")
    rows = load(TABLE, presets=("preset.yaml",)).rows
    assert (rows["plain"].train.mixing, rows["plain"].train.lr, rows["plain"].assess.attempts) == ("none", 0.25, 2)
    assert (rows["mixed"].train.mixing, rows["mixed"].assess.attempts) == ("union", 1)
    one = load((workplace / "recipes/good.yaml").read_text(), "train.lr=0.1", presets=("preset.yaml",))
    assert (one.rows["good"].train.mixing, one.rows["good"].train.lr) == ("none", 0.1)


def test_every_rows_problems_are_reported_at_once_with_their_lines(workplace: Path) -> None:
    text = TABLE + "  wrong:\n    train: {mixin: none, lr: fast}\n  bad name:\n    seed: -1\n"
    found = problems(text)
    assert [line.split(":")[1] for line in found] == ["10", "10", "11", "12"]
    assert "did you mean 'mixing'?" in "".join(found[:2])
    assert "expected a name" in found[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: t\nbase: good.yaml\nrows:\n", "x.yaml:3: rows: expected names"),
        ("name: t\nbase: good.yaml\nrows: [a]\n", "x.yaml:3: rows: expected names"),
        ("name: t\nbase: good.yaml\nrows:\n  a: 3\n", "x.yaml:4: rows.a: expected the keys that the row changes"),
        (
            "name: t\nbase: good.yaml\nrows:\n  a: {name: b}\n",
            "x.yaml:4: rows.a.name: only a whole recipe has this key",
        ),
        ("base: good.yaml\nrows:\n  a:\n", "missing key 'name'"),
        ("name: a/b\nbase: good.yaml\nrows:\n  a:\n", "x.yaml:1: name: expected a name"),
        ("name: t\nbase: table.yaml\nrows:\n  a:\n", "table.yaml:4: rows: a base is one recipe"),
        ("name: t\nbase: table.yaml\n", "table.yaml:4: rows: a base is one recipe"),
    ],
)
def test_what_is_no_table_says_why(workplace: Path, text: str, expected: str) -> None:
    Path("recipes/table.yaml").write_text(TABLE)
    found = problems(text)
    assert len(found) == 1 and expected in found[0], found


def test_a_base_or_preset_that_does_not_fit_says_why(workplace: Path) -> None:
    good = (workplace / "recipes/good.yaml").read_text()
    assert "--base recipes/good.yaml: is for a table" in problems(good, base="recipes/good.yaml")[0]
    assert problems(TABLE, base="recipes/god.yaml")[0].startswith("--base recipes/god.yaml: ")
    assert "did you mean 'good.yaml'?" in problems(TABLE, base="recipes/god.yaml")[0]
    assert "--preset none.yaml: no such file" in problems(good, presets=("none.yaml",))[0]
    Path("preset.yaml").write_text("name: x\ntrain: {lr: 0.1}\n")
    assert "preset.yaml:1: name: only a whole recipe has this key" in problems(good, presets=("preset.yaml",))[0]


def test_a_table_is_refused_where_one_recipe_is_wanted(workplace: Path) -> None:
    Path("recipes/table.yaml").write_text(TABLE)
    with pytest.raises(RecipeError, match=r"a table of recipes \(plain, mixed\), where one recipe is wanted"):
        load_recipe("recipes/table.yaml")
