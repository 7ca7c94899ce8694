"""The worker's command line, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.pipeline.worker import main
from ltgc_local.recipe import Recipe
from ltgc_local.runs.provenance import write_run_recipe


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


def test_workers_share_the_chunks_by_number(root: Path, make_recipe: Callable[..., Recipe]) -> None:
    from ltgc_local.runs.directory import RunDirectory
    from ltgc_local.runs.files import GeneratedImage, Images

    run = RunDirectory(root)
    images = [GeneratedImage(b"", 1, "bag", 0, "text", 0, seed=0)]
    run.write_chunk("draw", 0, [Images("images", images)], {"items": 1, "seconds": 0.0, "peak_mib": 0})
    run.write_manifest("draw", {}, 1, 0)
    run.folder("generated").mkdir()
    assert main([str(root), "generated", "0", "2"]) == 0
    before = (run.folder("generated") / "chunks/plan.json").stat().st_mtime_ns
    assert main([str(root), "generated", "1", "2"]) == 0  # the second of two has nothing to do
    assert (run.folder("generated") / "chunks/plan.json").stat().st_mtime_ns == before
    assert sorted(run.complete_chunks("generated")) == [0]
    assert run.num_chunks("generated") == 1
