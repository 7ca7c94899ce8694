"""Untrusted recipes: none hangs, fills the memory, takes long, ends in a traceback, or asks for absurd work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Le, Lt
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ltgc_local.errors import LtgcError, RecipeError
from ltgc_local.pipeline.sweep import parse_seeds
from ltgc_local.recipe import load_recipe
from ltgc_local.recipe.loader import load_recipes
from ltgc_local.recipe.markers import iterate_fields
from ltgc_local.recipe.schema import VARIANTS
from ltgc_local.yaml_tree import MAX_BYTES, Place, Problem, parse_yaml, resolve_scalar
from tests.promptly import unprivileged_folder, within
from tests.recipe.conftest import CARD, GOOD

#: Dotted key -> its field, of every class of recipes.
FIELDS = {key: field for recipe in VARIANTS.values() for key, field in iterate_fields(recipe)}


def refusal(content: str | bytes, *overrides: str, seconds: float = 2, **layers: Any) -> str:
    """Return the message for recipes/x.yaml of this content."""
    path = Path("recipes/x.yaml")
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with within(seconds), pytest.raises(RecipeError) as caught:
        load_recipes(path, overrides, **layers)
    return str(caught.value)


def test_an_underscore_that_parts_no_digits_makes_no_number(workplace: Path) -> None:
    assert [resolve_scalar(text) for text in ("5_", "1__0", "_5", "1_000", "-2_0", "5")] == [
        *("5_", "1__0", "_5"),
        *(1000, -20, 5),
    ]
    assert "train.epochs: expected a whole number from 1 to 100000; found the text '5_'" in refusal(
        GOOD + "train:\n  epochs: 5_\n"
    )


@pytest.mark.parametrize(
    "line",
    ['root: "/x/\\ud800"', 'lists: "\\udfff"', 'image_column: "\\ud800"', '"\\ud800": 3', 'benchmark: "\\ud800"'],
)
def test_half_a_character_is_refused_wherever_it_is(workplace: Path, line: str) -> None:
    told = refusal(f"name: x\ndata:\n  root: ../data\n  {line}\nmodels:\n  cards: ../cards\n")
    assert "recipes/x.yaml:4: data" in told and "a character that YAML does not allow: U+D" in told
    told.encode()


@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "/dev/urandom"])
@pytest.mark.parametrize("way", ["recipe", "base", "--base", "--preset", "class_names", "root", "cards"])
def test_what_is_no_file_is_refused_at_once(workplace: Path, kind: str, way: str) -> None:
    other = Path(kind)
    if kind == "fifo":
        other = workplace / "recipes/fifo"
        os.mkfifo(other)
    table = GOOD + "rows:\n  one:\n"
    options: dict[str, Any] = {
        "--base": {"content": table, "base": other},
        "--preset": {"content": GOOD, "presets": (other,)},
        "base": {"content": GOOD + f"base: {other}\n"},
        "class_names": {"content": GOOD.replace("../data\n", f"../data\n  benchmark: csv\n  class_names: {other}\n")},
        "root": {"content": GOOD.replace("../data", str(other))},
        "cards": {"content": GOOD.replace("../cards", str(other))},
        "recipe": None,
    }[way]
    if options is None:
        with within(2), pytest.raises(RecipeError, match="not a regular file"):
            load_recipe(other)
    elif way in ("root", "cards"):
        assert f"no folder {other}" in refusal(**options)
    else:
        assert "not a regular file but a " in refusal(**options)


def test_a_recipe_that_may_not_be_read_is_said_to_be_forbidden() -> None:
    with unprivileged_folder() as folder:
        (folder / "x.yaml").write_text(GOOD)
        (folder / "x.yaml").chmod(0)
        with pytest.raises(RecipeError, match="cannot be read: Permission denied"):
            load_recipe(folder / "x.yaml")
        (folder / "in").mkdir()
        (folder / "in").chmod(0)
        (folder / "y.yaml").write_text(GOOD.replace("../data", "in/data"))
        with pytest.raises(RecipeError, match=r"data\.root: .*in/data: cannot be read: Permission denied"):
            load_recipe(folder / "y.yaml")


@pytest.mark.parametrize("row", ["seed: x{}", "sead: {}", "train: {{lerning_{}: 1}}", "data: {{root: nowhere{}}}"])
def test_a_table_of_900_wrong_rows_is_refused_in_time(workplace: Path, row: str) -> None:
    _many_cards(workplace)
    rows = "".join(f"  r{number}: {{{row.format(number)}}}\n" for number in range(600 if "{{" in row else 900))
    # It takes 0.4 s, and took 20 s when each row read all cards; the machine may be busy.
    assert len(refusal(GOOD + "rows:\n" + rows, seconds=6).splitlines()) == (600 if "{{" in row else 900)


def test_a_table_of_1900_rows_is_read_in_time(workplace: Path) -> None:
    _many_cards(workplace)
    (workplace / "recipes/x.yaml").write_text(GOOD + "rows:\n" + "".join(f"  r{number}:\n" for number in range(1900)))
    with within(6):
        assert len(load_recipes("recipes/x.yaml").rows) == 1900


def _many_cards(workplace: Path) -> None:
    for number in range(16):  # as many as are shipped
        name = f"more-{number}"
        (workplace / "cards" / f"{name}.md").write_text(CARD.format(name=name, role="llm"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("extend.max_descriptions", 1_000_000_000),
        ("extend.max_asks", 10**12),
        ("draw.shard_size", 10**9),
        ("train.epochs", 10**9),
        ("evaluate.vlm_images_per_class", 10**9),
        ("data.max_pixels", 10**9),
    ],
)
def test_absurd_amounts_are_refused_with_their_bound(workplace: Path, path: str, value: int) -> None:
    told = refusal(GOOD + "extend:\n  source: template\n", f"{path}={value}")
    assert f"{path}: expected a whole number from " in told and f"; found {value}" in told


def test_every_whole_number_of_a_recipe_has_a_bound() -> None:
    whole = {path: field for path, field in FIELDS.items() if field.annotation in (int, int | None)}
    assert len(whole) > 60
    assert [path for path, field in whole.items() if not any(isinstance(m, Le | Lt) for m in field.metadata)] == []


@pytest.mark.parametrize("color", ["white", "black", "grey", "'#aBc123'"])
def test_a_background_is_a_colour(workplace: Path, color: str) -> None:
    (workplace / "recipes/x.yaml").write_text(
        GOOD.replace("../data\n", f"../data\n  benchmark: csv\n  alpha_background: {color}\n")
    )
    assert load_recipe("recipes/x.yaml").data.alpha_background == color.strip("'")


@pytest.mark.parametrize("color", ["red", "'#12345'", "'#1234567'", "#ffffff", "0", "'white\\n'"])
def test_what_is_no_background_is_refused(workplace: Path, color: str) -> None:
    told = refusal(GOOD.replace("../data\n", f"../data\n  benchmark: csv\n  alpha_background: {color}\n"))
    assert "data.alpha_background: expected white, black, grey or a colour such as '#ffcc00' (in quotes)" in told


def test_decoding_has_no_effect_on_images_that_are_not_encoded(workplace: Path) -> None:
    cifar = GOOD.replace("../data\n", "../data\n  benchmark: cifar10_lt\n  max_pixels: 9\n  alpha_background: grey\n")
    told = refusal(cifar)
    assert "data.max_pixels: has no effect on cifar10_lt" in told
    assert "data.alpha_background: has no effect on cifar10_lt" in told


BIG = {
    "comments": "# a\n" * 250_000,
    "one value": "a: " + "b" * 999_000,
    "words": "a: " + "b " * 499_000,
    "a text in quotes over lines": 'a: "' + "b\n\n" * 333_000 + '"',
    "brackets": "[" * 1_000_000,
    "braces": "{a: " * 250_000,
    "dashes": "- " * 500_000,
    "question marks": "? " * 500_000,
    "items": "- a\n" * 250_000,
    "a list": "[" + "a," * 499_000 + "]",
    "keys": "".join(f"k{number}:\n" for number in range(100_000)),
    "one key": "a" * 999_000 + ": b",
    "blank lines": "\n" * 1_000_000,
    "tags": "!a " * 300_000,
    "anchors": "".join(f"- &a{number} b\n" for number in range(70_000)),
    "a bomb of aliases": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)),
    "an alias of itself": "a: &a [*a]",
}


@pytest.mark.parametrize("case", BIG)
def test_a_megabyte_of_yaml_is_refused_in_time(workplace: Path, case: str) -> None:
    content = BIG[case]
    assert len(content) <= MAX_BYTES
    assert len(refusal(content, seconds=4)) < 2_000  # it takes less than two; the machine may be busy


@pytest.mark.parametrize(
    "text",
    [
        "99999999999999999999,1",
        "1000000000",
        "9" * 5000,
        "9" * 5000 + ",1",
        ",".join(map(str, range(1001))),
        "1001",
        "²",
        "0",
        "9223372036854775808,0",
    ],
)
def test_seeds_that_are_too_large_or_too_many_are_refused(text: str) -> None:
    with within(2), pytest.raises(RecipeError, match=r"^--seeds .{1,61}: ") as caught:
        parse_seeds(text)
    assert len(str(caught.value)) < 200


def test_the_largest_seeds_are_accepted() -> None:
    assert parse_seeds("9223372036854775807,00000000000000000000000003") == (2**63 - 1, 3)
    assert len(parse_seeds("1000")) == 1000


KEYS = [*FIELDS, "diffusion", "kmdn", "rows", "base", "x"]
SCALARS = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=12),
    st.sampled_from(["5_", "1e999", "-0", ".nan", "0x10", "*a", "&a", "!!python/object:os.system", "[", "{}", "\\"]),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(KEYS), SCALARS), min_size=1, max_size=6))
@example([("data.root", "\ud800")])
@example([("generator", "x")])
def test_changed_recipes_load_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, Any]]
) -> None:
    folder = _folder(tmp_path_factory)
    overrides = [f"{key}={value}" for key, value in changes]
    _load(lambda: load_recipe(folder / "recipes/good.yaml", overrides))
    lines = "".join(f"{key.partition('.')[0]}:\n  {key.partition('.')[2]}: {value}\n" for key, value in changes)
    (folder / "recipes/y.yaml").write_text(GOOD + lines, "utf-8", "surrogatepass")
    _load(lambda: load_recipes(folder / "recipes/y.yaml"))


@settings(max_examples=200)
@given(st.integers(0, len(GOOD)), st.integers(0, 20), st.binary(max_size=8))
def test_recipes_with_other_bytes_load_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, length: int, inserted: bytes
) -> None:
    folder, content = _folder(tmp_path_factory), GOOD.encode()
    (folder / "recipes/y.yaml").write_bytes(content[:at] + inserted + content[at + length :])
    _load(lambda: load_recipes(folder / "recipes/y.yaml"))


@settings(max_examples=200)
@given(st.text(st.sampled_from("ab:-?[]{}&*!|>'\"%@#\n\t ,\\ud8_0"), max_size=60))
def test_any_text_is_yaml_or_a_list_of_problems(text: str) -> None:
    problems: list[Problem] = []
    with within(2):
        entry = parse_yaml(text, Place("x", 0, Path()), problems)
    assert entry is not None or problems


def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "changed"
    if not folder.is_dir():
        for name in ("data", "cards", "recipes"):
            (folder / name).mkdir(parents=True)
        for name, role in (("see", "vlm"), ("write", "llm"), ("draw", "t2i"), ("score", "clip")):
            (folder / "cards" / f"{name}.md").write_text(CARD.format(name=name, role=role))
        (folder / "recipes/good.yaml").write_text(GOOD)
    return folder


def _load(load: Callable[[], object]) -> None:
    """Allow our own errors alone, within two seconds; what they say must be text that can be written."""
    try:
        with within(2):
            load()
    except LtgcError as error:
        assert error.exit_code in (2, 3)
        assert str(error)
