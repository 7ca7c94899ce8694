"""The documents stay true: README's length, every command in them, and every recipe key in the reference."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ltgc_local.cli import main
from ltgc_local.recipe.reference import Key, iterate_keys
from ltgc_local.recipe.schema import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")),
    *sorted((ROOT / "model_cards").glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "recipes").rglob("*.yaml")),
]


@pytest.fixture(scope="module")
def keys() -> list[Key]:
    """The keys that the recipe reference prints."""
    return list(iterate_keys())


def commands_in(text: str) -> Iterator[str]:
    """Yield the ltgc-local commands of a page: lines of shell blocks and recipe headers, and those in code quotes."""
    text = re.sub(r"\s*\\\n\s*", " ", text)
    for line in text.splitlines():
        if found := re.match(r"(?:# .*|.*&& )?(?:\.venv/bin/)?\b(ltgc-local [a-z].*)", line):
            yield re.split(r"\s{2,}|\s+#", found[1])[0]
    yield from re.findall(r"`(ltgc-local [a-z][^`]*)`", text)


def parse(command: str) -> click.Context:
    """Parse a command as the command line does, and run nothing; a command's name alone need only be one."""
    words = shlex.split(command)[1:]
    found: click.Command = main
    context = click.Context(main, info_name="ltgc-local")
    while isinstance(found, click.Group):
        name, found, words = found.resolve_command(context, words)
        parent, context = context, click.Context(found, info_name=name, parent=context)
    return context if not words else found.make_context(context.info_name, words, parent=parent)


COMMANDS = sorted(
    {(page.relative_to(ROOT).as_posix(), c) for page in PAGES for c in commands_in(page.read_text("utf-8"))}
)


def test_commands_are_found_in_blocks_headers_and_sentences() -> None:
    text = (
        "# Launch    ltgc-local run a.yaml --seeds 3\n#           model_cards/). First: ltgc-local plan b.yaml\n"
        "ltgc-local plan c.yaml   # comment\nltgc-local run d.yaml \\\n  --row x\nSo `ltgc-local status RUN --check`.\n"
        "python -m venv x && .venv/bin/ltgc-local run e.yaml\n# Print     ltgc-local compare runs/a   (a note)\n"
    )
    assert list(commands_in(text)) == [
        "ltgc-local run a.yaml --seeds 3",
        "ltgc-local plan b.yaml",
        "ltgc-local plan c.yaml",
        "ltgc-local run d.yaml --row x",
        "ltgc-local run e.yaml",
        "ltgc-local compare runs/a",
        "ltgc-local status RUN --check",
    ]
    assert len(COMMANDS) > 100


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_in_a_document_parses_and_names_recipes_and_keys_that_exist(
    page: str, command: str, keys: list[Key]
) -> None:
    context = parse(command)
    known = {key.name for key in keys}
    for setting in context.params.get("overrides", ()):
        assert setting.partition("=")[0] in known, setting
    named = [context.params.get("recipe"), context.params.get("base"), *context.params.get("presets", ())]
    for path in filter(None, named):
        if path.parts[0] == "recipes":
            assert (ROOT / path).is_file(), path


@pytest.mark.parametrize(
    "command", ["ltgc-local rum x.yaml", "ltgc-local run x.yaml --sedes 3", "ltgc-local compare a --format word"]
)
def test_a_command_that_is_wrong_does_not_parse(command: str) -> None:
    with pytest.raises(click.UsageError):
        parse(command)


def test_the_readme_is_short_enough_for_a_newcomer() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 800


def test_the_readme_prints_the_logit_adjusted_control_as_the_tables_have_it() -> None:
    readme, tables = ((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/tables.md"))
    means = re.sub(r" ± [0-9.]+", "", tables.replace("**", ""))
    lines = re.findall(r"^\|[^|]*\| (?:–|real)[^|]*\| [0-9].*\|$", readme, re.MULTILINE)
    assert len(lines) == 6
    for line in lines:
        figures = " | ".join(cell.strip().replace("**", "") for cell in line.strip("|").split("|")[2:])
        assert figures in means, line
    assert "| LoRA, logit adjustment | real |" in readme


def test_every_key_of_every_block_is_in_the_reference_with_values_default_source_and_meaning(keys: list[Key]) -> None:
    def walk(model, prefix=""):  # type: ignore[no-untyped-def]
        for name, field in model.model_fields.items():
            inner = getattr(field.annotation, "model_fields", None)
            yield from walk(field.annotation, f"{prefix}{name}.") if inner else [prefix + name]

    wanted = {name for recipe in VARIANTS.values() for name in walk(recipe)}
    assert len(wanted) >= 282
    by_name = {key.name: key for key in keys}
    assert wanted == set(by_name) and len(by_name) == len(keys)
    for key in keys:
        assert key.values and key.source and key.recipes and len(key.meaning) > 4, key
    required = {key.name for key in keys if not key.default}
    roles = {f"models.{role}" for role in ("vlm", "llm", "t2i", "clip")}
    assert required == {"name", "data.root", "models.cards"} | roles
    lr = by_name["train.lr"]
    assert (lr.default, lr.values, lr.source, lr.recipes) == ("0.01", "a number above 0, at most 10", "ours", ("ltgc",))
    assert by_name["kmdn.feature_weight"].source == "released code"
    assert by_name["assess.threshold"].source == "paper"
