"""A step's plan is written once, says the same in every process, and is compared with what was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.errors import ArtefactError
from ltgc_local.methods.ltgc.stages.collect import LastImages
from ltgc_local.methods.ltgc.stages.describe import TailImage
from ltgc_local.methods.stage import ChunkedStage, stage_class
from ltgc_local.methods.stages.compare_images import Lookup
from ltgc_local.methods.stages.fingerprint_images import ImageSpan
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe
from ltgc_local.records import Description
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, Images
from ltgc_local.runs.row_index import FileRows

FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(tmp_path / "run")
    found.write_chunk("draw", 0, [Images("images", [GeneratedImage(b"", 1, "bag", 0, "é\u2028", 0, seed=0)])], FACTS)
    found.write_manifest("draw", {}, 1, 0)
    return found


def items_of(run: RunDirectory, step: str, item: Any) -> list[list[Any]]:
    plan = run.chunk_plan(step)
    assert plan is not None
    return [plan.items(number, item, run) for number in range(len(plan.chunks))]


def test_items_of_every_kind_come_back_as_they_were(run: RunDirectory) -> None:
    path = run.root / "draw/images-00000.parquet"
    kinds: dict[Any, list[list[Any]]] = {
        int: [[3, 5], [7]],
        TailImage: [[TailImage(9, 1, 0)], [TailImage(2, 1, 1)]],
        Description: [[Description(1, 0, 2, 'with a "hood"\n', "refined")]],
        FileRows: [[FileRows(path, (0,))], [FileRows(path, (7, 0)), FileRows(path, ())]],
        LastImages: [[LastImages(path, (3, 0), (0.1 + 0.2, None), ("", "missed"))]],
        ImageSpan: [[ImageSpan("train", None, 4, 9, (5, 8))], [ImageSpan("generated", path, 0, 1)]],
        Lookup: [[Lookup(2, 0, 7, 64)]],
        str: [],
    }
    for item, chunks in kinds.items():
        plan = run.write_chunk_plan("next", chunks, item)
        assert plan.sizes == [sum(getattr(each, "num_items", 1) for each in chunk) for chunk in chunks]
        assert items_of(run, "next", item) == chunks


def test_every_chunked_stage_says_what_its_items_are(make_recipe: Callable[..., Recipe]) -> None:
    kinds = {step.name: stage_class(step) for step in build_plan(make_recipe("evaluate.vlm_classifier=true"))}
    items = {name: kind.item for name, kind in kinds.items() if issubclass(kind, ChunkedStage)}
    assert items["describe"] is TailImage and items["draw"] is FileRows and items["extend"] is int
    assert items["generated"] is LastImages and items["leaks/originals"] is items["leaks/generated"] is ImageSpan


def test_a_run_that_was_moved_finds_its_files(run: RunDirectory, tmp_path: Path) -> None:
    run.write_chunk_plan("next", [run.index("draw").items()], FileRows)
    shutil.move(run.root, tmp_path / "moved")
    moved = RunDirectory(tmp_path / "moved")
    ((item,),) = items_of(moved, "next", FileRows)
    assert item.path == moved.root / "draw/images-00000.parquet"


def test_files_that_a_plan_names_are_compared_with_their_sha256(run: RunDirectory) -> None:
    run.write_chunk_plan("next", [run.index("draw").items()], FileRows)
    path = run.root / "draw/images-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtefactError, match=r"images-00000\.parquet: damaged.*ltgc-local repair"):
        items_of(RunDirectory(run.root), "next", FileRows)


@pytest.mark.parametrize("name", ["../outside.parquet", "/etc/hostname", "draw/manifest.json", "draw/.x", "images", ""])
def test_no_other_file_is_named(run: RunDirectory, name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.parquet").touch()
    with pytest.raises(ArtefactError):
        run.file(name)


@pytest.mark.parametrize(("file", "message"), [("plan.json", "sha256"), ("plan.jsonl", "its chunk 1 is not what was")])
def test_a_flipped_bit_is_named(run: RunDirectory, file: str, message: str) -> None:
    run.write_chunk_plan("next", [[1, 2], [3, 4]], int)
    path = run.root / "next/chunks" / file
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=rf"{file}: damaged.*{message}.*ltgc-local repair"):
        items_of(run, "next", int)


def test_a_plan_that_was_not_finished_is_none(run: RunDirectory) -> None:
    run.write_chunk_plan("next", [[1, 2]], int)
    (run.root / "next/chunks/plan.json").unlink()
    assert run.chunk_plan("next") is None


def test_a_link_is_no_plan_of_lines(run: RunDirectory, tmp_path: Path) -> None:
    run.write_chunk_plan("next", [[1, 2]], int)
    path = run.root / "next/chunks/plan.jsonl"
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ArtefactError, match=r"plan\.jsonl"):
        items_of(run, "next", int)
