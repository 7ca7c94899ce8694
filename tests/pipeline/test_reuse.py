"""A finished step is taken from another run where nothing tells the two apart, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltgc_local.methods.base import Step
from ltgc_local.methods.ltgc.plan import DETECT
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json
from ltgc_local.runs.find_runs import find_runs
from ltgc_local.runs.reuse import find_finished, take_step
from ltgc_local.runs.sealed import write_sealed

FACTS = {"items": 1, "seconds": 2.0, "peak_mib": 7}
STEP = Step("assess/0/detect", DETECT)


def finished(root: Path, fingerprint: dict[str, object], value: str = "made") -> RunDirectory:
    run = RunDirectory(root)
    for number in (0, 1):
        run.write_chunk(STEP.name, number, [Json("made", value)], FACTS)
    run.write_manifest(STEP.name, fingerprint, 2, 4.5)
    return run


def test_a_step_of_equal_fingerprint_is_taken_whole_and_says_from_where(tmp_path: Path) -> None:
    first, second = finished(tmp_path / "a", {"seed": 1}), RunDirectory(tmp_path / "b")
    source = find_finished(STEP.name, {"seed": 1}, [tmp_path / "none", first.root])
    assert source is not None
    take_step(STEP.name, source, second)
    before, after = first.manifest(STEP.name), second.manifest(STEP.name)
    assert before is not None and after == before.model_copy(update={"taken_from": str(first.root)})
    assert second.digest(STEP.name) == first.digest(STEP.name)
    assert sorted(second.complete_chunks(STEP.name)) == [0, 1]
    assert second.value(STEP.name, "made") == "made"
    origin, copy = (run.files(STEP.name, "made")[0].stat() for run in (first, second))
    assert origin.st_ino == copy.st_ino  # a link takes no room


def test_what_was_taken_is_taken_on_with_its_first_origin(tmp_path: Path) -> None:
    first, second, third = (RunDirectory(tmp_path / name) for name in "abc")
    finished(first.root, {"seed": 1})
    take_step(STEP.name, first, second)
    take_step(STEP.name, second, third)
    manifest = third.manifest(STEP.name)
    assert manifest is not None and manifest.taken_from == str(first.root)


@pytest.mark.parametrize("fingerprint", [{"seed": 2}, {"seed": 1, "data": "x"}, {}])
def test_another_fingerprint_is_not_taken(tmp_path: Path, fingerprint: dict[str, object]) -> None:
    run = finished(tmp_path / "a", fingerprint)
    assert find_finished(STEP.name, {"seed": 1}, [run.root]) is None


@pytest.mark.parametrize("damage", ["begun", "cut", "gone", "manifest", "flipped", "link"])
def test_what_is_not_complete_and_whole_is_not_taken(tmp_path: Path, damage: str) -> None:
    run = finished(tmp_path / "a", {"seed": 1})
    file = run.folder(STEP.name) / "made-00001.json"
    if damage == "begun":
        (run.folder(STEP.name) / "manifest.json").unlink()
    elif damage == "manifest":
        (run.folder(STEP.name) / "manifest.json").write_text("{")
    elif damage == "cut":
        file.write_text("x")
    elif damage == "flipped":  # the same size
        file.write_text(file.read_text().replace("made", "nade"))
    elif damage == "link":  # to the very same content
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
    assert find_finished(STEP.name, {"seed": 1}, [run.root]) is None


def test_the_next_whole_run_is_looked_at_when_the_first_is_damaged(tmp_path: Path) -> None:
    damaged, whole = finished(tmp_path / "a", {"seed": 1}), finished(tmp_path / "b", {"seed": 1})
    (damaged.folder(STEP.name) / "made-00000.json").unlink()
    found = find_finished(STEP.name, {"seed": 1}, [damaged.root, whole.root])
    assert found is not None and found.root == whole.root


def test_taking_a_step_twice_or_over_a_begun_one_leaves_it_whole_and_nothing_else(tmp_path: Path) -> None:
    first, second = finished(tmp_path / "a", {"seed": 1}), RunDirectory(tmp_path / "b")
    second.write_chunk(STEP.name, 0, [Json("made", "half a step of another")], FACTS)
    for _ in range(2):
        take_step(STEP.name, first, second)
    assert second.value(STEP.name, "made") == "made"
    assert [path for path in second.root.rglob("*") if path.name.startswith(".")] == []


def test_redoing_a_step_in_one_run_leaves_the_other_as_it_was(tmp_path: Path) -> None:
    first, second = finished(tmp_path / "a", {"seed": 1}), RunDirectory(tmp_path / "b")
    take_step(STEP.name, first, second)
    second.supersede([STEP.name])
    finished(second.root, {"seed": 2}, "anew")
    assert (first.value(STEP.name, "made"), second.value(STEP.name, "made")) == ("made", "anew")


def test_runs_are_found_in_a_folder_and_not_within_runs(tmp_path: Path) -> None:
    for name in ("t/b/seed-0", "t/a/seed-1", "t/a/seed-0", "t/a/seed-0/superseded/0"):
        (tmp_path / name).mkdir(parents=True)
        write_sealed(tmp_path / name / "recipe.json", {"name": "x"})
    names = [run.relative_to(tmp_path).as_posix() for run in find_runs(tmp_path)]
    assert names == ["t/a/seed-0", "t/a/seed-1", "t/b/seed-0"]
    assert find_runs(tmp_path / "t/b/seed-0") == [tmp_path / "t/b/seed-0"]
    assert find_runs(tmp_path / "none") == []
