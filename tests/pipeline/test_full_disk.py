"""A disk that is full while a shard is written: a real small file system where mounting is allowed, and a limit of
file size, which the system refuses in the same way, everywhere."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltgc_local.errors import ArtefactError
from ltgc_local.recipe import Recipe
from ltgc_local.records import Description
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json, Lines, Table, Tensors, write_atomically
from ltgc_local.runs.provenance import write_run_recipe

FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}
DRAWING = ("draw.size_px=32", "draw.steps=1", "draw.shard_size=4", "assess.enabled=false")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB: it holds the first shard of images and not the second."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def write_extend(root: Path, recipe: Recipe, number: int) -> RunDirectory:
    """Write a run whose descriptions wait to be drawn."""
    run = RunDirectory(root)
    root.mkdir(exist_ok=True)
    write_run_recipe(root, recipe)
    texts = [Description(8, i, 0, f"A photo of the class bag with handle {i}.", "extended") for i in range(number)]
    run.write_chunk("extend", 0, [Lines("descriptions", texts)], FACTS)
    run.write_manifest("extend", {}, 1, 0)
    run.folder("draw").mkdir()
    return run


def draw(run: RunDirectory, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Draw in a process of its own, as the launcher does, with files of ``limit`` bytes at most."""

    def lower() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    command = [sys.executable, "-m", "ltgc_local.pipeline.worker", str(run.root), "draw", "0", "1"]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=lower, timeout=300)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def test_a_full_disk_is_exit_code_5_leaves_no_half_shard_and_the_next_run_goes_on(
    small_disk: Path, make_recipe: Callable[..., Recipe]
) -> None:
    run = write_extend(small_disk / "run", make_recipe(*DRAWING), 12)
    result = draw(run)
    assert result.returncode == 5
    assert "images-00001.parquet: cannot be written: No space left on device; what is complete" in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(run.complete_chunks("draw")) == [0]
    assert leftovers(run.root) == [] and not (run.folder("draw") / "images-00001.parquet").exists()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    first = (run.folder("draw") / "images-00000.parquet").stat().st_mtime_ns
    assert draw(run).returncode == 0
    assert sorted(run.complete_chunks("draw")) == [0, 1, 2]
    assert (run.folder("draw") / "images-00000.parquet").stat().st_mtime_ns == first


def test_a_file_that_grows_too_large_is_exit_code_5_and_a_larger_limit_goes_on(
    tmp_path: Path, make_recipe: Callable[..., Recipe]
) -> None:
    run = write_extend(tmp_path / "run", make_recipe(*DRAWING), 2)
    result = draw(run, limit=4096)
    assert result.returncode == 5
    assert "images-00000.parquet: cannot be written: File too large" in result.stderr
    assert "Traceback" not in result.stderr and leftovers(run.root) == []
    assert run.complete_chunks("draw") == {}
    assert draw(run).returncode == 0
    assert sorted(run.complete_chunks("draw")) == [0]


def test_every_kind_of_file_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    import numpy as np
    import torch

    numbers = np.random.default_rng(0).random(9000)
    kinds = [
        Json("json", "x" * 50_000),
        Lines("lines", [Description(0, 0, 0, "x" * 50_000, "existing")]),
        Tensors("tensors", {"a": torch.from_numpy(numbers)}),
        Table("table", {"a": numbers}),
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        for artefact in kinds:
            path = tmp_path / f"{artefact.kind}.{artefact.suffix}"
            with pytest.raises(ArtefactError, match=r"cannot be written: File too large; .* make room"):
                write_atomically(artefact, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_lock_that_names_nobody(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "ballast").write_bytes(b"x" * 70_000)
    run = RunDirectory(small_disk / "run")
    with pytest.raises(ArtefactError, match="No space left on device; what is complete"), run.locked():
        pass
    assert not (run.root / ".lock").exists()
