"""The pipeline around steps that are complete already: what is skipped, redone, refused and written down."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.errors import ArtefactError, DataError, ModelError
from ltgc_local.pipeline.fingerprint import StaleStep, fingerprint
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.preparation import Request, look_at_inputs
from ltgc_local.pipeline.scheduler import read_run_recipe, run_pipeline
from ltgc_local.pipeline.status import run_status
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json

MakeRecipe = Callable[..., Recipe]
FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}
SMALL = ("assess.enabled=false", "train.control=false")


@pytest.fixture
def options(empty_models: tuple[str, ...]) -> tuple[str, ...]:
    """Options of a small recipe whose four models hold no tensor."""
    return (*SMALL, *empty_models)


@pytest.fixture
def complete(tmp_path: Path, make_recipe: MakeRecipe, options: tuple[str, ...]) -> tuple[Recipe, RunDirectory]:
    """A run whose steps are all complete: each wrote a file with its name."""
    recipe, run = make_recipe(*options), RunDirectory(tmp_path / "run")
    run.root.mkdir()
    digests = look_at_inputs(Request(recipe, run.root, "c")).digests
    for step in build_plan(recipe):
        run.write_chunk(step.name, 0, [Json("made", step.name)], FACTS)
        run.write_manifest(step.name, fingerprint(step, recipe, run, digests), 1, 0)
    return recipe, run


def files_of(run: RunDirectory) -> dict[str, int]:
    paths = [path for path in run.root.rglob("*") if path.is_file() and path.name != "model_digests.json"]
    return {str(path.relative_to(run.root)): path.stat().st_mtime_ns for path in paths}


def test_a_complete_run_does_nothing_and_at_once(complete: tuple[Recipe, RunDirectory]) -> None:
    recipe, run = complete
    before, said = files_of(run), []
    start = time.monotonic()
    run_pipeline(Request(recipe, run.root, "c"), said.append)
    assert time.monotonic() - start < 5
    assert (files_of(run), said) == (before, [])


@pytest.mark.parametrize("when", [0, 4_102_444_800], ids=["1970", "2100"])
def test_a_clock_that_was_set_changes_nothing(complete: tuple[Recipe, RunDirectory], when: int) -> None:
    recipe, run = complete
    for path in run.root.rglob("*"):
        os.utime(path, (when, when))
    before, said = files_of(run), []
    run_pipeline(Request(recipe, run.root, "c"), said.append)
    assert (files_of(run), said) == (before, [])
    assert {step.state for step in run_status(recipe, run.root)} == {"complete"}
    with run.locked():
        pass


def test_a_changed_key_of_train_is_an_error_that_names_it_and_touches_nothing(
    complete: tuple[Recipe, RunDirectory], make_recipe: MakeRecipe, options: tuple[str, ...]
) -> None:
    _, run = complete
    before = files_of(run)
    with pytest.raises(StaleStep, match=r"step train/ltgc was made with other settings:\n  train.lr: 0.01 -> 0.5$"):
        run_pipeline(Request(make_recipe(*options, "train.lr=0.5"), run.root, "ltgc-local run x"), lambda line: None)
    assert files_of(run) == before


@pytest.mark.parametrize("name", ["recipe.json", "provenance.json"])
def test_a_damaged_fact_is_written_again_and_asks_for_no_command(
    complete: tuple[Recipe, RunDirectory], name: str
) -> None:
    recipe, run = complete
    (run.root / "recipe.json").write_text("{")
    run_pipeline(Request(recipe, run.root, "ltgc-local run x.yaml"), lambda line: None)  # which writes both
    (run.root / name).write_text("{")
    said: list[str] = []
    run_pipeline(Request(recipe, run.root, "ltgc-local run x.yaml"), said.append)
    assert said == [f"{run.root / name}: damaged, and written again"]
    assert read_run_recipe(run.root) == recipe


def test_from_a_step_moves_it_and_what_follows_and_keeps_the_rest(
    complete: tuple[Recipe, RunDirectory],
) -> None:
    recipe, run = complete
    (run.folder("train/ltgc") / "manifest.json").write_text("{")  # damage does not stop --from
    run_pipeline(Request(recipe, run.root, "c", from_step="train", to_step="generated"), lambda line: None)
    states = {step.name: step.state for step in run_status(recipe, run.root)}
    assert [name for name, state in states.items() if state == "waiting"] == [
        "train/ltgc",
        "validate/ltgc",
        "predict/ltgc",
        "evaluate",
        "report",
    ]
    assert states["draw"] == "complete"
    assert (run.root / "superseded/0/train/ltgc/made-00000.json").is_file()
    assert not run.folder("train/ltgc").exists()


def test_other_weights_in_the_same_folder_are_noticed(complete: tuple[Recipe, RunDirectory], tmp_path: Path) -> None:
    recipe, run = complete
    (tmp_path / "cards/t2i/scheduler_config.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"step draw was made with other settings:\n  model: "):
        run_pipeline(Request(recipe, run.root, "c"), lambda line: None)


def test_damaged_weights_are_noticed_before_any_step(complete: tuple[Recipe, RunDirectory], tmp_path: Path) -> None:
    recipe, run = complete
    (tmp_path / "cards/clip/model.safetensors").write_bytes(b"\x10")
    with pytest.raises(ModelError, match="truncated"):
        run_pipeline(Request(recipe, run.root, "c"), lambda line: None)


def test_what_failed_wrote_down_what_it_was_made_of_and_leaves_no_lock(
    tmp_path: Path, make_recipe: MakeRecipe, options: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    recipe, run, said = make_recipe(*options), RunDirectory(tmp_path / "run"), []
    with pytest.raises(ModelError, match=r"step describe: failed .*; once that is fixed, rerun the same command"):
        run_pipeline(Request(recipe, run.root, "ltgc-local run x"), said.append)
    assert said[0] == "describe …"
    assert "cannot be loaded as a vlm by transformers" in capfd.readouterr().err
    assert not (run.root / ".lock").exists()
    assert read_run_recipe(run.root) == recipe
    provenance = json.loads((run.root / "provenance.json").read_text())
    assert provenance["models"]["clip"]["evidence"] == "random"
    assert provenance["packages"].keys() >= {"torch", "transformers", "diffusers", "open_clip_torch", "peft"}
    assert (provenance["seed"], provenance["command"]) == (0, "ltgc-local run x")
    describe = run_status(recipe, run.root)[0]
    assert (describe.name, describe.state, describe.items) == ("describe", "stopped", 0)
    assert "cannot be loaded as a vlm by transformers" in describe.problem


def test_missing_images_stop_a_run_before_its_first_step(
    tmp_path: Path, make_recipe: MakeRecipe, options: tuple[str, ...]
) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for split in ("train", "val", "test"):
        (root / f"{split}.txt").write_text(f"{split}/a.jpg 0\n{split}/b.jpg 1\n")
    (root / "class_names.txt").write_text("cat\ndog\n")
    recipe, run = make_recipe(*options, "data.benchmark=list_files", f"data.root={root}"), RunDirectory(tmp_path / "r")
    with pytest.raises(DataError) as caught:
        run_pipeline(Request(recipe, run.root, "c"), lambda line: None)
    first = str(caught.value).splitlines()[0]
    assert first == f"list_files train: {root}/train/a.jpg, {root}/train/b.jpg not there, of 2 images"
    assert run.manifest("describe") is None and not list(run.folder("describe").glob("chunks/*"))
