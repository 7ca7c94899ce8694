"""Every known way to break a recipe gives one clear message, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ltgc_local.errors import ModelError, RecipeError
from ltgc_local.recipe import Recipe, load_recipe
from tests.recipe.broken import APPENDED, OVERRIDES, REPLACED, SEED, WHOLE


def problems_of(content: str | bytes, overrides: list[str] | None = None) -> list[str]:
    """Return the lines of the error that recipes/x.yaml gives, with the current folder as {root}."""
    Path("recipes/x.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecipeError) as caught:
        load_recipe("recipes/x.yaml", overrides or [])
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(Path.cwd()), "{root}").split("\n")


@pytest.mark.parametrize("case", APPENDED)
def test_a_broken_addition_says_where_and_what(workplace: Path, case: str) -> None:
    text, expected = APPENDED[case]
    good = (workplace / "recipes/good.yaml").read_text()
    assert problems_of(good + text) == [f"recipes/x.yaml:{line}" for line in expected]


@pytest.mark.parametrize("case", REPLACED)
def test_a_broken_line_says_where_and_what(workplace: Path, case: str) -> None:
    (old, new), expected = REPLACED[case]
    good = (workplace / "recipes/good.yaml").read_text()
    assert old in good
    assert problems_of(good.replace(old, new, 1)) == [f"recipes/x.yaml:{line}" for line in expected]


@pytest.mark.parametrize("case", WHOLE)
def test_a_broken_file_says_what(workplace: Path, case: str) -> None:
    content, expected = WHOLE[case]
    assert problems_of(content) == expected


@pytest.mark.parametrize("case", OVERRIDES)
def test_a_broken_option_says_which(workplace: Path, case: str) -> None:
    overrides, expected = OVERRIDES[case]
    assert problems_of((workplace / "recipes/good.yaml").read_bytes(), overrides) == expected


def test_problems_of_a_base_name_the_base(workplace: Path) -> None:
    (workplace / "recipes/b.yaml").write_text("train:\n  lr: -1\n")
    assert problems_of("base: b.yaml\nname: x\nseed: x\n") == [
        "recipes/x.yaml:1: missing block 'data'; write 'data:' and under it 'root'",
        "recipes/x.yaml:1: missing block 'models'; write 'models:' and under it "
        "'cards', 'clip', 'vlm', 'llm' and 't2i'",
        f"recipes/x.yaml:3: seed: {SEED}; found the text 'x'",
        "recipes/b.yaml:2: train.lr: expected a number above 0, at most 10; found -1",
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("recipes/goud.yaml", "recipes/goud.yaml: no such file; did you mean 'good.yaml'?"),
        ("recipes/zzz", "recipes/zzz: no such file; there are good.yaml"),
        ("nowhere/x.yaml", "nowhere/x.yaml: no such file"),
        ("recipes", "recipes: this is a folder; name a recipe; there are good.yaml"),
    ],
)
def test_a_missing_recipe_says_which_are_there(workplace: Path, path: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value) == expected


def test_a_broken_card_is_a_models_error_unless_the_recipe_is_broken_too(workplace: Path) -> None:
    (workplace / "cards/bad.md").write_text("no front matter\n")
    with pytest.raises(ModelError, match=r"bad\.md:1: expected front matter"):
        load_recipe("recipes/good.yaml")
    found = problems_of((workplace / "recipes/good.yaml").read_text() + "seed: x\n")
    assert found[0].startswith("recipes/x.yaml:5: models.cards: {root}/cards/bad.md:1: expected front matter")
    assert found[1].startswith("recipes/x.yaml:10: seed: ")


def test_a_distilled_model_is_drawn_with_as_its_card_says(workplace: Path) -> None:
    card = workplace / "cards/draw.md"
    few = "few_step:\n  steps: [4, 8]\n  guidance: 2\n"
    card.write_text(card.read_text().replace("license:", f"{few}license:", 1))
    good = (workplace / "recipes/good.yaml").read_text()
    assert problems_of(good + "draw:\n  steps: 7\n  guidance: 7.5\n") == [
        "recipes/x.yaml:11: draw.steps: 7, but the t2i 'draw' was distilled for 4 or 8 steps; write 'steps: 8'",
        "recipes/x.yaml:12: draw.guidance: 7.5, but the t2i 'draw' was distilled for guidance 2 at most; "
        "write 'guidance: 2'",
    ]
    assert load_recipe("recipes/good.yaml", ["draw.steps=8", "draw.guidance=2"]).draw.steps == 8
    card.write_text(card.read_text().replace("guidance: 2", "guidance: 0"))
    assert problems_of(good)[1].endswith("5, but the t2i 'draw' was distilled for no guidance; write 'guidance: 0'")
    assert load_recipe("recipes/good.yaml", ["draw.steps=4", "draw.guidance=1"]).draw.guidance == 1


def test_a_tiny_decoder_is_named_by_the_card(workplace: Path) -> None:
    card = workplace / "cards/draw.md"
    asked = (workplace / "recipes/good.yaml").read_text() + "draw:\n  decoder: tiny\n"
    assert problems_of(asked) == [
        "recipes/x.yaml:11: draw.decoder: 'tiny', but {root}/cards/draw.md names none; remove it, or write there "
        "'tiny_decoder: FOLDER' (see README.md next to the cards)"
    ]
    card.write_text(card.read_text().replace("license:", "tiny_decoder: taesdxl\nlicense:", 1))
    assert load_recipe("recipes/x.yaml").draw.decoder == "tiny"


@given(st.text(max_size=60), st.integers(0, 120))
@example('data: {root: "\\0"}\n', 0)
@example("data:\n  root: " + "x" * 5000 + "\n", 0)
@example("data:\n  root: ~nobody/x\n", 0)
@example('base: "\\0"\n', 0)
@example(f"seed: {'9' * 5000}\n", 0)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_recipe_or_a_recipe_error(workplace: Path, text: str, position: int) -> None:
    good = (workplace / "recipes/good.yaml").read_text()
    mixed = good[:position] + text + good[position:]
    Path("recipes/any.yaml").write_bytes(mixed.encode("utf-8", "surrogatepass"))
    try:
        recipe = load_recipe("recipes/any.yaml")
    except RecipeError as error:
        assert str(error).startswith("recipes/")
    else:
        assert isinstance(recipe, Recipe)
