"""The run directory: chunks, manifests last, damage, and what ``--from`` moves away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.errors import ArtefactError
from ltgc_local.records import Rejected
from ltgc_local.runs.directory import CHECKPOINT, RunDirectory
from ltgc_local.runs.files import Json, Lines, Text

FACTS = {"items": 2, "seconds": 1.5, "peak_mib": 100}


def rejected(number: int) -> Rejected:
    return Rejected(number, f"text {number}\u2028\x85", "reason", "extend")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run whose step ``extend`` has chunks 0 and 1, complete, of one record each, but no manifest."""
    directory = RunDirectory(tmp_path / "run")
    for number in (0, 1):
        directory.write_chunk("extend", number, [Lines("rejected", [rejected(number)])], FACTS)
    return directory


def refusal(run: RunDirectory, *call: Any) -> str:
    with pytest.raises(ArtefactError) as caught:
        call[0](*call[1:])
    return str(caught.value).replace(str(run.root), "RUN")


def test_a_step_is_not_complete_before_its_manifest(run: RunDirectory) -> None:
    assert run.manifest("extend") is None
    assert refusal(run, run.records, "extend", "rejected", Rejected) == (
        "RUN/extend: step extend is not complete; type: ltgc-local run RUN --from extend"
    )


def test_the_manifest_is_written_only_when_all_chunks_are_there(run: RunDirectory) -> None:
    assert refusal(run, run.write_manifest, "extend", {}, 4, 1.0) == ("extend: 2 of 4 chunks are missing (first: 2)")
    assert run.manifest("extend") is None
    run.write_manifest("extend", {"seed": 0}, 2, 9.5)
    manifest = run.manifest("extend")
    assert manifest is not None
    # Two chunks of 2 items and 1.5 s each; the peak is the larger one's.
    assert (manifest.items, manifest.seconds, manifest.peak_mib, manifest.wall_seconds) == (
        4,
        3.0,
        100,
        9.5,
    )
    assert list(manifest.files) == ["rejected-00000.jsonl", "rejected-00001.jsonl"]
    assert manifest.fingerprint == {"seed": 0}


def test_a_complete_training_keeps_no_checkpoint(run: RunDirectory) -> None:
    checkpoint = run.folder("extend") / CHECKPOINT
    checkpoint.write_bytes(b"anything")
    run.write_manifest("extend", {}, 2, 0)
    assert not checkpoint.exists()


def test_records_come_back_in_the_order_of_chunks_whatever_a_model_wrote(run: RunDirectory) -> None:
    run.write_manifest("extend", {}, 2, 0)
    assert run.records("extend", "rejected", Rejected) == [rejected(0), rejected(1)]
    assert run.records("extend", "other", Rejected) == []


def test_a_step_without_items_is_complete_and_empty(run: RunDirectory) -> None:
    run.folder("assess/1/refine").mkdir(parents=True)
    run.write_manifest("assess/1/refine", {}, 0, 0.1)
    assert run.records("assess/1/refine", "descriptions", Rejected) == []
    assert run.images("assess/1/refine") == []


def test_files_of_a_stage_with_one_chunk_have_no_number(run: RunDirectory) -> None:
    run.write_chunk("evaluate", 0, [Json("metrics", {"all": 50})], FACTS, numbered=False)
    run.write_manifest("evaluate", {}, 1, 0)
    assert (run.root / "evaluate/metrics.json").is_file()
    assert run.value("evaluate", "metrics") == {"all": 50}


@pytest.mark.parametrize("keep", [0, 10, None])
def test_a_file_that_is_cut_or_gone_names_the_step_to_redo(run: RunDirectory, keep: int | None) -> None:
    run.write_manifest("extend", {}, 2, 0)
    path = run.folder("extend") / "rejected-00001.jsonl"
    size = path.stat().st_size
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:keep])
    problem = "not there" if keep is None else f"{keep} bytes, where {size} were written"
    assert refusal(run, run.files, "extend", "rejected") == (
        f"RUN/extend/rejected-00001.jsonl: damaged: {problem}; type: ltgc-local repair RUN"
    )


@pytest.mark.parametrize("content", ["", "{", '{"files": {'])
def test_a_damaged_manifest_names_the_step_to_redo(run: RunDirectory, content: str) -> None:
    (run.folder("extend") / "manifest.json").write_text(content)
    text = refusal(run, run.manifest, "extend")
    assert text.startswith("RUN/extend/manifest.json: damaged: ")
    assert text.endswith("type: ltgc-local repair RUN")


def test_a_chunk_whose_file_was_cut_is_not_complete(run: RunDirectory) -> None:
    assert sorted(run.complete_chunks("extend")) == [0, 1]
    path = run.folder("extend") / "rejected-00000.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert sorted(run.complete_chunks("extend")) == [1]
    path.unlink()
    assert sorted(run.complete_chunks("extend")) == [1]
    assert refusal(run, run.write_manifest, "extend", {}, 2, 0) == "extend: 1 of 2 chunks are missing (first: 0)"


@pytest.mark.parametrize("content", ["", '{"files": {"rejec'])
def test_a_chunk_whose_own_file_was_cut_is_not_complete(run: RunDirectory, content: str) -> None:
    (run.folder("extend") / "chunks/00000.json").write_text(content)
    assert sorted(run.complete_chunks("extend")) == [1]


def test_files_without_their_chunk_file_do_not_count(run: RunDirectory) -> None:
    (run.folder("extend") / "chunks/00001.json").unlink()
    assert (run.folder("extend") / "rejected-00001.jsonl").is_file()
    assert sorted(run.complete_chunks("extend")) == [0]
    assert run.complete_chunks("never begun") == {}


def test_the_digest_follows_the_files_contents_and_not_the_time_they_took(run: RunDirectory) -> None:
    run.write_manifest("extend", {}, 2, 0)
    before = run.digest("extend")
    run.write_chunk("extend", 1, [Lines("rejected", [rejected(1)])], FACTS | {"seconds": 99})
    run.write_manifest("extend", {"other": 1}, 2, 50)
    assert run.digest("extend") == before
    run.write_chunk("extend", 1, [Lines("rejected", [rejected(7)])], FACTS)
    run.write_manifest("extend", {}, 2, 0)
    assert run.digest("extend") != before


def everything_under(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_superseding_keeps_everything_and_counts_on(run: RunDirectory) -> None:
    run.write_chunk("assess/0/detect", 0, [Json("a", 1)], FACTS)
    before = everything_under(run.root)
    run.supersede(["extend", "assess/0/detect", "never begun"])
    assert everything_under(run.root / "superseded/0") == before
    assert not run.folder("extend").exists() and not run.folder("assess/0/detect").exists()
    run.write_chunk("extend", 0, [Json("b", 2)], FACTS)
    run.supersede(["extend"])
    assert everything_under(run.root / "superseded/0") == before
    assert json.loads((run.root / "superseded/1/extend/b-00000.json").read_text()) == 2


def test_superseding_nothing_makes_no_folder(run: RunDirectory) -> None:
    run.supersede(["never begun"])
    assert not (run.root / "superseded").exists()


@pytest.mark.parametrize("step", ["../other", "/etc", "assess/../../x"])
def test_a_step_of_elsewhere_is_refused(run: RunDirectory, step: str) -> None:
    assert refusal(run, run.manifest, step) == f"RUN: names a step outside the run, {step!r}"


def test_one_file_is_verified_without_reading_the_steps_others(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for number in range(3):
        run.write_chunk("draw", number, [Text("page", f"page {number}")], {"items": 1, "seconds": 0.0, "peak_mib": 0})
    run.write_manifest("draw", {}, 3, 0)
    (tmp_path / "draw/page-00001.html").write_text("damage")
    assert run.file("draw/page-00002.html") == tmp_path / "draw/page-00002.html"
    with pytest.raises(ArtefactError, match=r"page-00001\.html: damaged"):
        run.file("draw/page-00001.html")
    assert not (tmp_path / "draw/verified.json").exists()


def test_a_manifest_is_read_again_when_it_changes(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.manifest("draw") is None
    run.write_chunk("draw", 0, [Text("page", "one")], {"items": 1, "seconds": 0.0, "peak_mib": 0})
    run.write_manifest("draw", {"seed": 1}, 1, 0)
    first, digest = run.manifest("draw"), run.digest("draw")
    assert first is not None and run.manifest("draw") is first
    run.write_chunk("draw", 0, [Text("page", "two")], {"items": 1, "seconds": 0.0, "peak_mib": 0})
    run.write_manifest("draw", {"seed": 2}, 1, 0)
    again = run.manifest("draw")
    assert again is not None and again.fingerprint == {"seed": 2} and run.digest("draw") != digest
    (tmp_path / "draw/manifest.json").unlink()
    assert run.manifest("draw") is None
