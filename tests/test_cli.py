"""The command line: every command's help has an example, and every kind of mistake its exit code and one message."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ltgc_local import __version__
from ltgc_local.cli import main
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json
from ltgc_local.runs.provenance import write_run_recipe
from ltgc_local.runs.sealed import write_sealed

ROOT = Path(__file__).resolve().parents[1]
FACTS = {"items": 3, "seconds": 1.0, "peak_mib": 5}


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def recipe_file(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Path:
    make_recipe()
    return tmp_path / "plain.yaml"


def names_of(group: click.Group) -> list[tuple[str, ...]]:
    """Return the words that call each command, those in groups included."""
    found = []
    for name, command in group.commands.items():
        inner = names_of(command) if isinstance(command, click.Group) else []
        found += [(name,), *((name, *words) for words in inner)]
    return found


@pytest.mark.parametrize("words", [(), *names_of(main)], ids=" ".join)
def test_every_command_explains_itself_with_an_example(words: tuple[str, ...]) -> None:
    result = call(*words, "--help")
    assert result.exit_code == 0
    (example,) = re.findall(r"Example: (ltgc-local .*?)(?: Options:|$)", " ".join(result.output.split()))
    given = example.split()[1:]
    assert tuple(given[: len(words)]) == words
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[given.pop(0)]
    command.make_context("x", given, resilient_parsing=False)  # the example is one that parses


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize("words", [(), ("recipes",)])
def test_a_list_of_commands_cuts_no_sentence(
    words: tuple[str, ...], columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    listed = call(*words, "--help").output.partition("Commands:\n")[2].splitlines()
    assert [(*words, line.split()[0]) for line in listed] == sorted(
        name for name in names_of(main) if name[:-1] == words
    )
    assert all(line.endswith(".") and not line.endswith("..") for line in listed)


@pytest.mark.parametrize("module", ["ltgc_local", "ltgc_local.cli"])
def test_the_package_can_be_run_as_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: ltgc-local [OPTIONS]")


def test_the_version_is_the_packages() -> None:
    assert call("--version").output == f"ltgc-local, version {__version__}\n"


def test_a_fine_recipe_says_so(recipe_file: Path) -> None:
    result = call("validate", recipe_file, "--set", "seed=3")
    assert (result.exit_code, result.output) == (
        0,
        f"{recipe_file}: fine (ltgc on fashion_mnist_lt, seed 3)\n",
    )


def test_a_plan_is_printed_for_people_and_for_scripts(recipe_file: Path) -> None:
    text, data = call("plan", recipe_file), call("plan", recipe_file, "--json")
    assert text.exit_code == data.exit_code == 0
    plan = json.loads(data.stdout)
    assert all(step["name"] in text.stdout for step in plan["steps"])
    clip = {"card": "miniature-vit", "evidence": "miniature", "backend": "open_clip", "note": "", "problem": ""}
    assert plan["models"]["clip"] == clip


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_two_models_that_share_the_memory_are_said(recipe_file: Path, command: str) -> None:
    assert "memory: " not in call(command, recipe_file).stdout
    told = call(command, recipe_file, "--set", "draw.clip_features=true").stdout
    sizes = "t2i (unstated parameters) and clip (0.79 million parameters)"
    assert f"memory: {sizes} are loaded together, by draw.clip_features\n" in told
    assert command == "validate" or "t2i+clip" in told


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_weights_that_are_missing_are_said_with_their_place_and_stop_no_plan(
    recipe_file: Path, tmp_path: Path, command: str
) -> None:
    front = "name: far\nrole: llm\nfamily: qwen3\npath: nowhere/Qwen3-8B\nevidence: real\nlicense: MIT\nsource: s\n"
    cards = tmp_path / "cards"
    shutil.copytree(ROOT / "model_cards", cards)
    (cards / "far.md").write_text(f"---\n{front}---\n")
    result = call(command, recipe_file, "--set", f"models.cards={cards}", "--set", "models.llm=far")
    assert result.exit_code == 0
    told = [line for line in result.stdout.splitlines() if line.startswith("cannot run yet: ")]
    assert any("no weights of 'far': put the folder at" in line and "nowhere/Qwen3-8B" in line for line in told)
    assert len(told) == 4  # the miniatures' paths lead nowhere from there either
    assert "cannot run yet" not in call(command, recipe_file).stdout


def test_a_card_of_ltgc_cards_serves_a_recipe_and_a_message_names_where_was_looked(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = "name: far\nrole: llm\nfamily: qwen3\npath: Far\nevidence: real\nlicense: MIT\nsource: s\n"
    (tmp_path / "more").mkdir()
    (tmp_path / "more/far.md").write_text(f"---\n{front}---\n")
    monkeypatch.setenv("LTGC_CARDS", str(tmp_path / "more"))
    fine = call("validate", recipe_file, "--set", "models.llm=far")
    assert fine.exit_code == 0 and f"cannot run yet: {tmp_path}/more/far.md: no weights of 'far'" in fine.stdout
    wrong = call("validate", recipe_file, "--set", "models.llm=fur")
    assert wrong.exit_code == 2
    assert f"no card 'fur' in {ROOT}/model_cards, nor by $LTGC_CARDS in {tmp_path}/more; " in wrong.stderr
    assert "did you mean 'far'?" in wrong.stderr


def test_a_plan_says_which_backend_runs_the_text_and_what_is_slow_about_it(recipe_file: Path) -> None:
    def said(*options: str) -> str:
        found = call("plan", recipe_file, *(word for option in options for word in ("--set", option))).stdout
        return next(line for line in found.splitlines() if line.startswith("llm: "))

    assert said("models.device=cpu") == "llm: miniature-qwen3 (miniature, transformers)"
    assert said("models.device=cpu", "models.quantization=8bit").endswith(
        "(miniature, transformers): vLLM does not load bitsandbytes; 8bit by bitsandbytes saves memory and is slower "
        "than whole weights"
    )
    assert said("models.backend=vllm").endswith("(miniature, vllm)")


def test_a_plan_says_that_images_are_by_a_tiny_decoder(recipe_file: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "model_cards", cards := tmp_path / "cards")
    card = cards / "miniature-sdxl.md"
    card.write_text(card.read_text("utf-8").replace("path:", "tiny_decoder: t\npath:"), encoding="utf-8")
    plan = call("plan", recipe_file, "--set", f"models.cards={cards}", "--set", "draw.decoder=tiny").stdout
    assert "t2i: miniature-sdxl (miniature, diffusers): images by its tiny decoder\n" in plan


def test_a_plan_says_what_of_a_t2i_is_quantised(recipe_file: Path) -> None:
    asked = ("--set", "models.text_encoders=8bit", "--set", "models.unet=fp8")
    plan = call("plan", recipe_file, *asked).stdout
    assert "t2i: miniature-sdxl (miniature, diffusers): its text encoders in 8bit by bitsandbytes; its UNet's " in plan
    assert "; its UNet's matrices in fp8\n" in plan
    for key, wrong, right in (("text_encoders", "4bit", "8bit"), ("unet", "int8", "fp8")):
        result = call("plan", recipe_file, "--set", f"models.{key}={wrong}")
        assert result.exit_code == 2 and f"models.{key}: expected '{right}'" in result.stderr


def test_a_recipes_problems_are_exit_code_2_all_at_once_without_a_traceback(recipe_file: Path) -> None:
    recipe_file.write_text(recipe_file.read_text() + "train:\n  lrr: 1\n  epochs: none\n")
    for command in ("validate", "plan", "run"):
        result = call(command, recipe_file)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert [line.split(":")[1] for line in result.stderr.splitlines()] == ["12", "13"]
        assert "did you mean 'lr'?" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("words", [["validate"], ["walk"], ["run", "x.yaml", "--sett", "a=1"], ["status"]])
def test_wrong_words_are_exit_code_2(words: list[str]) -> None:
    assert call(*words).exit_code == 2


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_an_unknown_step_is_exit_code_2_and_touches_nothing(recipe_file: Path, tmp_path: Path, option: str) -> None:
    result = call("run", recipe_file, "--out", tmp_path / "run", option, "drew")
    assert result.exit_code == 2
    assert result.stderr.startswith("no step is called 'drew'; steps: describe, extend, draw,")
    assert not (tmp_path / "run").exists()


def test_changed_settings_are_exit_code_5_with_two_commands_that_resolve_them(
    recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my runs"
    RunDirectory(out).begin("describe", {"seed": 1})
    result = call("run", recipe_file, "--set", "seed=2", "--out", out)
    assert result.exit_code == 5
    lines = result.stderr.splitlines()
    assert lines[0] == f"{out}/describe: step describe was made with other settings:" and "  seed: 1 -> 2" in lines
    command = f"  ltgc-local run {recipe_file} --set seed=2 --out "
    assert lines[-3] == f"{command}'{out}' --from describe" and lines[-1] == f"{command}'{out}-2'"


def test_a_traceback_is_shown_when_it_is_asked_for_with_the_same_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTGC_TRACEBACK", "")  # which the option sets, for workers: restored after the test
    result = call("--traceback", "validate", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert "RecipeError: " in result.stderr.splitlines()[-1]


def test_missing_weights_are_exit_code_3(recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LTGC_MODELS", raising=False)
    cards = tmp_path / "cards"
    cards.mkdir()
    for card in (ROOT / "model_cards").glob("*.md"):
        (cards / card.name).write_text(re.sub(r"^path: .*", "path: nowhere", card.read_text("utf-8"), flags=re.M))
    result = call("run", recipe_file, "--set", f"models.cards={cards}", "--out", tmp_path / "run")
    assert result.exit_code == 3
    assert "no weights of 'miniature-qwen2.5-vl'" in result.stderr and "nowhere" in result.stderr
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_damaged_card_is_exit_code_3(recipe_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    for card in (ROOT / "model_cards").glob("*.md"):
        (tmp_path / "cards" / card.name).write_text("# no front matter\n")
    result = call("validate", recipe_file, "--set", f"models.cards={tmp_path / 'cards'}")
    assert result.exit_code == 3
    assert "expected front matter" in result.stderr


@pytest.mark.parametrize("command", ["plan", "run"])
def test_missing_data_are_exit_code_4(recipe_file: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "data").mkdir()
    more = ["--out", tmp_path / "run"] if command == "run" else []
    result = call(command, recipe_file, "--set", f"data.root={tmp_path / 'data'}", *more)
    assert result.exit_code == 4
    assert "train.parquet and val.parquet and test.parquet not there" in result.stderr
    assert "type: python data/make_fashion_mnist_lt.py" in result.stderr


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_folder_that_is_no_run_is_exit_code_5(tmp_path: Path, command: str) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        result = call(command, folder)
        assert result.exit_code == 5
        assert str(folder) in result.stderr and "ltgc-local" in result.stderr


@pytest.mark.parametrize("content", ["", "{", '{"name": "x", "of_another_version": 1}', "\xff"])
def test_a_damaged_recipe_of_a_run_is_exit_code_5(tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.json").write_bytes(content.encode("latin-1"))
    for command in ("status", "report", "run"):
        result = call(command, tmp_path)
        assert result.exit_code == 5
        assert "recipe.json: damaged: it does not end with its sha256: cut short, or not written by" in result.stderr
        assert f"type: ltgc-local run RECIPE --out {tmp_path}, with its recipe for RECIPE" in result.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "not a recipe;"),
        ({"name": "x", "of_another_version": 1}, "written by another version of ltgc-local ("),
        ({"name": "x", "data": []}, "written by another version of ltgc-local ("),
    ],
)
def test_a_recipe_of_another_version_is_exit_code_5(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    write_sealed(tmp_path / "recipe.json", settings)
    for command in ("status", "run"):
        result = call(command, tmp_path)
        assert result.exit_code == 5
        assert f"recipe.json: {words}" in result.stderr


def test_a_file_as_run_directory_is_exit_code_5(recipe_file: Path) -> None:
    assert call("run", recipe_file, "--out", recipe_file).exit_code == 5


def test_saying_less_and_more_at_once_is_refused(recipe_file: Path) -> None:
    refused = call("run", recipe_file, "-q", "-v")
    assert refused.exit_code == 2 and "-q prints less and -v more; give one of them" in refused.stderr


def test_report_prints_the_table_of_a_run_that_was_evaluated(
    tmp_path: Path, make_recipe: Callable[..., Recipe]
) -> None:
    run = RunDirectory(tmp_path)
    groups = {"all": 50.0, "many": 60.04, "medium": None, "few": 7.5, "per_class": {}}
    run.write_chunk("evaluate", 0, [Json("metrics", {"zero_shot": groups, "ltgc": groups})], FACTS, numbered=False)
    run.write_manifest("evaluate", {}, 1, 0)
    refused = call("report", tmp_path)
    assert refused.exit_code == 5 and f"{tmp_path}: no run directory" in refused.stderr
    write_run_recipe(tmp_path, make_recipe())
    lines = call("report", tmp_path).stdout.splitlines()
    assert lines[0].split()[-4:] == ["all", "many", "medium", "few"]
    assert lines[1].split()[-4:] == lines[2].split()[-4:] == ["50.0", "60.0", "-", "7.5"]
    assert lines[3] == f"report: not made yet; type: ltgc-local run {tmp_path}"


def test_validate_with_images_decodes_every_one(recipe_file: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    for split in ("train", "val", "test"):
        (root / split / "cat").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / split / "cat/a.png")
    sets = ("--set", f"data.root={root}", "--set", "data.benchmark=image_folder")
    fine = call("validate", recipe_file, "--images", *sets)
    assert fine.exit_code == 0 and f"{root}: 3 images, all of them decode" in fine.output
    (root / "test/cat/a.png").write_bytes(b"no image")
    assert call("validate", recipe_file, *sets).exit_code == 0  # no image is opened without --images
    refused = call("validate", recipe_file, "--images", *sets)
    assert refused.exit_code == 4
    assert f"{root}/test/cat/a.png: the image does not decode" in refused.output


@pytest.fixture
def table_file(recipe_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text("name: t\nbase: plain.yaml\nrows:\n  one:\n  two:\n    train: {mixing: union}\n")
    return path


def test_a_table_is_checked_and_planned_row_by_row(table_file: Path) -> None:
    lines = call("validate", table_file, "--set", "seed=2").output.splitlines()
    assert lines == [f"{table_file}, row {row}: fine (ltgc on fashion_mnist_lt, seed 2)" for row in ("one", "two")]
    plans = json.loads(call("plan", table_file, "--json").stdout)
    assert list(plans) == ["one", "two"]
    assert call("plan", table_file).stdout.count("to generate: ") == 2


def test_a_table_takes_another_base_and_a_preset(table_file: Path, tmp_path: Path) -> None:
    base, preset = tmp_path / "base.yaml", tmp_path / "preset.yaml"
    base.write_text((tmp_path / "plain.yaml").read_text() + "seed: 9\n")
    preset.write_text("train: {lrr: 1}\n")
    assert "seed 9" in call("validate", table_file, "--base", base).output
    result = call("validate", table_file, "--preset", preset)
    assert result.exit_code == 2 and f"{preset}:1: train: unknown key 'lrr'" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "x"], "--seeds x: expected seeds such as 0,1,2, or how many, such as 3"),
        (["--train-seeds", "x"], "--train-seeds x: expected seeds such as 0,1,2, or how many, such as 3"),
        (["--row", "three"], "--row three: no such row; rows: one, two"),
        (["--from", "train", "--reuse", "."], "give one of them"),
        (["--reuse", "/nowhere"], "--reuse /nowhere: no run directory there"),
        (["--from", "trian"], "no step is called 'trian'"),
    ],
)
def test_wrong_words_for_a_table_are_exit_code_2_and_touch_nothing(
    table_file: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    result = call("run", table_file, "--out", tmp_path / "runs", *words)
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "runs").exists()


def test_comparing_what_is_no_run_is_exit_code_5_and_nothing_to_compare_2(tmp_path: Path) -> None:
    result = call("compare", tmp_path)
    assert result.exit_code == 5 and "no run directory here" in result.stderr
    assert call("compare").exit_code == 2
    assert call("compare", tmp_path, "--format", "word").exit_code == 2


def test_compare_prints_or_writes_each_format(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    run = RunDirectory(tmp_path / "run")
    groups = {"all": 50.0, "many": 60.0, "medium": None, "few": 7.5, "per_class": {}}
    run.write_chunk("evaluate", 0, [Json("metrics", {"zero_shot": groups, "ltgc": groups})], FACTS, numbered=False)
    run.write_manifest("evaluate", {}, 1, 0)
    write_run_recipe(run.root, make_recipe())
    starts = {"markdown": "# fashion", "csv": "source,", "latex": "% needs", "html": "<!DOCTYPE html>"}
    for kind, start in starts.items():
        printed = call("compare", run.root, "--format", kind)
        assert printed.exit_code == 0 and printed.stdout.startswith(start)
        target = tmp_path / "new/folder" / kind
        assert call("compare", run.root, "--format", kind, "--out", target).output == ""
        assert target.read_text() == printed.stdout
    blocked = call("compare", run.root, "--out", run.root)
    assert blocked.exit_code == 5 and "cannot be written" in blocked.stderr
