"""What a step wrote is compared with its sha256 before it is used, once for as long as a file stays as it is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from ltgc_local.errors import ArtefactError
from ltgc_local.runs import verify
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json, Text

FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}
LARGE = "x" * verify.REMEMBERED_FROM


def finished(root: Path, text: str = LARGE) -> RunDirectory:
    run = RunDirectory(root)
    for number in range(3):
        run.write_chunk("draw", number, [Text("page", f"{number}{text}"), Json("small", number)], FACTS)
    run.write_manifest("draw", {}, 3, 0)
    return run


def flip(path: Path, keep_times: bool = False) -> None:
    """Flip the lowest bit of a byte in the middle."""
    state = path.stat()
    with path.open("r+b") as file:
        file.seek(state.st_size // 2)
        byte = file.read(1)[0]
        file.seek(state.st_size // 2)
        file.write(bytes([byte ^ 1]))
    if keep_times:
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("seen_before", [False, True])
@pytest.mark.parametrize("keep_times", [False, True])
def test_a_flipped_bit_is_named_with_what_to_type(tmp_path: Path, seen_before: bool, keep_times: bool) -> None:
    run = finished(tmp_path)
    if seen_before:
        run.files("draw", "page")
        assert (run.folder("draw") / "verified.json").is_file()
    path = run.folder("draw") / "page-00001.html"
    flip(path, keep_times)
    with pytest.raises(ArtefactError) as caught:
        RunDirectory(tmp_path).files("draw", "page")
    assert str(caught.value) == (
        f"{path}: damaged: its sha256 is not the one that it was written with; type: ltgc-local repair {tmp_path}"
    )
    assert len(RunDirectory(tmp_path).files("draw", "small")) == 3  # what is whole can be read


def test_several_damaged_files_are_counted(tmp_path: Path) -> None:
    run = finished(tmp_path)
    flip(run.folder("draw") / "page-00000.html")
    (run.folder("draw") / "page-00002.html").unlink()
    with pytest.raises(ArtefactError, match=r"page-00000.html: damaged: .* \(and 1 more files of this step\); type:"):
        run.files("draw", "page")
    assert [path.name for path, _ in run.find_damage("draw")] == ["page-00000.html", "page-00002.html"]


def test_a_large_file_is_hashed_once_while_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path)
    hashed: list[str] = []
    digest_file = verify.digest_file
    monkeypatch.setattr(verify, "digest_file", lambda path: hashed.append(path.name) or digest_file(path))
    for _ in range(2):
        run.files("draw", "page")
    assert len(hashed) == 3
    RunDirectory(tmp_path).files("draw", "page")  # another process: it reads what the first remembered
    assert len(hashed) == 3
    assert run.find_damage("draw", afresh=True) == []
    assert len(hashed) == 3 + 6


def test_a_copied_run_is_hashed_again_though_its_times_are_the_same(tmp_path: Path) -> None:
    run = finished(tmp_path / "a")
    run.files("draw", "page")
    shutil.copytree(run.root, tmp_path / "b")  # copy2: times stay
    flip(tmp_path / "b/draw/page-00000.html", keep_times=True)
    with pytest.raises(ArtefactError, match="damaged: its sha256"):
        RunDirectory(tmp_path / "b").files("draw", "page")


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000])
def test_a_damaged_memory_is_only_forgotten(tmp_path: Path, content: str) -> None:
    run = finished(tmp_path)
    (run.folder("draw") / "verified.json").write_text(content)
    assert len(run.files("draw", "page")) == 3
    flip(run.folder("draw") / "page-00000.html")
    with pytest.raises(ArtefactError, match="damaged"):
        RunDirectory(tmp_path).files("draw", "page")


def test_a_memory_of_other_content_is_not_believed(tmp_path: Path) -> None:
    """A file may be replaced, with its manifest: the memory is of a size, times, an inode and a digest."""
    run = finished(tmp_path)
    run.files("draw", "page")
    memory = (run.folder("draw") / "verified.json").read_bytes()
    other = finished(tmp_path, LARGE.replace("x", "y"))
    (run.folder("draw") / "verified.json").write_bytes(memory)
    flip(run.folder("draw") / "page-00002.html")
    with pytest.raises(ArtefactError, match=r"page-00002\.html: damaged"):
        other.files("draw", "page")


def test_a_link_in_a_step_is_not_followed(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", "short")
    path = run.folder("draw") / "page-00000.html"
    path.rename(tmp_path / "elsewhere.html")
    path.symlink_to(tmp_path / "elsewhere.html")
    with pytest.raises(ArtefactError, match=r"page-00000\.html: damaged: not a regular file"):
        run.files("draw", "page")


def test_numbers_of_any_length_are_chunks_in_their_order(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    numbers = (99_998, 99_999, 100_000, 1_000_000)
    for number in numbers:
        run.write_chunk("draw", number, [Json("page", number)], FACTS)
    assert list(run.complete_chunks("draw")) == list(numbers)
    manifest = {f"page-{number:05d}.json": number for number in numbers}
    files = {name: facts for chunk in run.complete_chunks("draw").values() for name, facts in chunk.files.items()}
    assert set(files) == set(manifest)
    from ltgc_local.runs.sealed import write_sealed

    whole = {"step": "draw", "fingerprint": {}, "seconds": 0.0, "wall_seconds": 0.0, "peak_mib": 0, "items": 4}
    listed = {name: dict(facts) for name, facts in sorted(files.items())}
    write_sealed(run.folder("draw") / "manifest.json", whole | {"files": listed})
    assert [json.loads(path.read_text()) for path in run.files("draw", "page")] == list(numbers)


@pytest.mark.parametrize("damaged", [{"page-00001.html"}, {f"page-0000{number}.html" for number in range(3)}], ids=len)
def test_hashing_afresh_forgets_a_file_that_is_damaged_though_it_looks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: set[str]
) -> None:
    run = finished(tmp_path)
    run.files("draw", "page")
    digest_file = verify.digest_file
    monkeypatch.setattr(verify, "digest_file", lambda path: "0" * 64 if path.name in damaged else digest_file(path))
    assert len(RunDirectory(tmp_path).files("draw", "page")) == 3  # remembered
    assert [path.name for path, _ in run.find_damage("draw", afresh=True)] == sorted(damaged)
    with pytest.raises(ArtefactError, match=r"page-0000\d\.html: damaged"):
        RunDirectory(tmp_path).files("draw", "page")
