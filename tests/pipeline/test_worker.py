"""The worker's command line, in this process."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.pipeline.worker import main
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, Images
from ltgc_local.runs.provenance import write_run_recipe
from ltgc_local.runs.sealed import write_sealed


@pytest.fixture
def root(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Path:
    write_run_recipe(tmp_path, make_recipe("assess.enabled=false"))
    return tmp_path


def test_an_error_is_one_line_and_its_exit_code(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root), "generated", "0", "1"]) == 5
    printed = capsys.readouterr().err
    assert printed == f"{root}/draw: step draw is not complete; type: ltgc-local run {root} --from draw\n"


def test_a_traceback_is_shown_when_it_is_asked_for_with_the_same_exit_code(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LTGC_TRACEBACK", "1")
    assert main([str(root), "generated", "0", "1"]) == 5
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):")


@pytest.fixture
def drawn(root: Path) -> RunDirectory:
    """A run that has generated an image; its next step is ``generated``."""
    run = RunDirectory(root)
    images = [GeneratedImage(b"", 1, "bag", 0, "text", 0, seed=0)]
    run.write_chunk("draw", 0, [Images("images", images)], {"items": 1, "seconds": 0.0, "peak_mib": 0})
    run.write_manifest("draw", {}, 1, 0)
    run.folder("generated").mkdir()
    return run


def test_workers_share_the_chunks_by_number(root: Path, drawn: RunDirectory) -> None:
    assert main([str(root), "generated", "0", "2"]) == 0
    before = (drawn.folder("generated") / "chunks/plan.json").stat().st_mtime_ns
    assert main([str(root), "generated", "1", "2"]) == 0  # the second of two has nothing to do
    assert (drawn.folder("generated") / "chunks/plan.json").stat().st_mtime_ns == before
    assert sorted(drawn.complete_chunks("generated")) == [0]
    assert drawn.num_chunks("generated") == 1


LINE = '[{"path":"draw/images-00000.parquet","rows":[ROW],"cosines":[null],"reasons":[""]}]\n'


@pytest.fixture
def planned(root: Path, drawn: RunDirectory) -> Path:
    """The run, with the one chunk of ``generated`` planned and made."""
    assert main([str(root), "generated", "0", "1"]) == 0
    return root


def write_plan(root: Path, line: bytes, **changes: int) -> None:
    folder = root / "generated/chunks"
    (folder / "plan.jsonl").write_bytes(line)
    digest = hashlib.sha256(line).hexdigest()
    chunk = {"offset": 0, "bytes": len(line), "items": 1, "sha256": digest} | changes
    write_sealed(folder / "plan.json", {"chunks": [chunk, chunk]})


@pytest.mark.parametrize(
    "changes",
    [{"bytes": 2**70}, {"bytes": 2**62}, {"bytes": 2**45}, {"offset": 2**70}, {"items": 10**400}, {"items": 7}],
    ids=str,
)
def test_a_received_plan_of_odd_amounts_is_exit_code_5(planned: Path, changes: dict[str, int]) -> None:
    write_plan(planned, LINE.replace("ROW", "0").encode(), **changes)
    assert main([str(planned), "generated", "0", "1"]) == 5


@pytest.mark.parametrize("row", ["1000000000", "-5", "123456789012345678901234567890"])
def test_a_received_plan_of_rows_that_are_not_there_is_exit_code_5(planned: Path, row: str) -> None:
    write_plan(planned, LINE.replace("ROW", row).encode())
    assert main([str(planned), "generated", "0", "1"]) == 5


@pytest.mark.parametrize("place", ["draw\\u0000/images", f"draw/{'x' * 5000}", f"{'x' * 5000}/images"])
def test_a_received_plan_of_odd_names_is_exit_code_5(planned: Path, place: str) -> None:
    write_plan(planned, LINE.replace("ROW", "0").replace("draw/images", place).encode())
    assert main([str(planned), "generated", "0", "1"]) == 5


def test_a_file_in_place_of_the_chunks_is_exit_code_5(planned: Path) -> None:
    shutil.rmtree(planned / "generated/chunks")
    (planned / "generated/chunks").touch()
    assert main([str(planned), "generated", "0", "1"]) == 5


@pytest.mark.parametrize("name", ["plan.json", "plan.jsonl"])
def test_a_plan_that_a_crash_cut_short_is_written_again_while_no_chunk_is_made(planned: Path, name: str) -> None:
    path = planned / "generated/chunks" / name
    written = path.read_bytes()
    path.write_bytes(b"")
    if name == "plan.json":
        assert main([str(planned), "generated", "0", "1"]) == 5  # a chunk was made by the plan that is lost
    (planned / "generated/chunks/00000.json").unlink()
    assert main([str(planned), "generated", "0", "1"]) == 0
    assert path.read_bytes() == written and sorted(RunDirectory(planned).complete_chunks("generated")) == [0]
