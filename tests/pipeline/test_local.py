"""Workers: real processes of steps that need no model; their exit codes become errors of the same kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ltgc_local.errors import ArtefactError, BackendError, DataError, LtgcError, ModelError, RecipeError
from ltgc_local.pipeline.executors.local import ERRORS, _explain, compile_cache, safe_path
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, Images, encode_png
from ltgc_local.runs.provenance import write_run_recipe
from tests.working import run_workers

FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}


@pytest.fixture
def run(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> RunDirectory:
    """A run without assessment that has drawn two images; the next step, ``generated``, needs no model."""
    directory = RunDirectory(tmp_path / "run")
    png = encode_png(Image.new("L", (4, 4), 7))
    rows = [GeneratedImage(png, 1, "bag", i, f"text {i}", 0, seed=i) for i in (1, 0)]
    directory.write_chunk("draw", 0, [Images("images", rows)], FACTS)
    directory.write_manifest("draw", {}, 1, 0)
    write_run_recipe(directory.root, make_recipe("assess.enabled=false"))
    directory.folder("generated").mkdir()  # the pipeline notes the fingerprint there first
    return directory


def test_a_step_runs_in_a_process_of_its_own_and_says_how_many_chunks(run: RunDirectory) -> None:
    run_workers(run.root, "generated")
    assert run.num_chunks("generated") == 1
    assert sorted(run.complete_chunks("generated")) == [0]
    run.write_manifest("generated", {}, 1, 0.1)
    assert [image.key for image in run.images("generated")] == [(1, 0, 0), (1, 1, 0)]
    manifest = run.manifest("generated")
    assert manifest is not None and manifest.peak_mib > 0


def test_a_chunk_that_is_complete_is_not_run_again_and_one_that_was_cut_is(run: RunDirectory) -> None:
    run_workers(run.root, "generated")
    chunk = run.folder("generated") / "chunks/00000.json"
    before = chunk.stat().st_mtime_ns
    run_workers(run.root, "generated")
    assert chunk.stat().st_mtime_ns == before
    shard = run.folder("generated") / "images-00000.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100])
    run_workers(run.root, "generated")
    assert shard.read_bytes() == whole


def test_a_workers_error_is_raised_with_its_kind_and_its_words_are_on_standard_error(
    run: RunDirectory, capfd: pytest.CaptureFixture[str]
) -> None:
    shard = run.folder("draw") / "images-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(
        ArtefactError, match=r"step generated: failed .*; once that is fixed, rerun the same command to resume"
    ):
        run_workers(run.root, "generated")
    printed = capfd.readouterr().err
    size = len(shard.read_bytes())
    assert printed.strip() == (
        f"{shard}: damaged: {size} bytes, where {size + 1} were written; type: ltgc-local repair {run.root}"
    )
    assert "Traceback" not in printed


@pytest.mark.parametrize("kind", [RecipeError, ModelError, DataError, ArtefactError, BackendError])
def test_every_exit_code_becomes_its_kind_again(kind: type[LtgcError]) -> None:
    assert ERRORS[kind.exit_code] is kind


def test_a_killed_worker_says_that_memory_may_be_short_and_that_the_command_goes_on() -> None:
    assert _explain("draw", -signal.SIGKILL, 9.0, Path("r/draw/logs")) == (
        "step draw: its process was killed (out of memory?); rerun the same command to resume"
    )
    assert _explain("draw", -signal.SIGSEGV, 9.0, Path("r/draw/logs")).startswith(
        "step draw: its process ended by SIGSEGV (where, is in r/draw/logs)"
    )


def test_what_torch_compiles_is_kept_where_nobody_else_can_write(tmp_path: Path) -> None:
    own = compile_cache(tmp_path)
    assert own == compile_cache(tmp_path) and own.stat().st_mode & 0o077 == 0
    own.chmod(0o777)  # others could put code there
    assert compile_cache(tmp_path) != own
    own.rename(tmp_path / "elsewhere")
    own.symlink_to(tmp_path / "elsewhere")
    fresh = compile_cache(tmp_path)
    assert fresh != own and fresh.stat().st_mode & 0o077 == 0


def test_a_relative_entry_of_pythonpath_is_left_out() -> None:
    found = safe_path({"PYTHONPATH": os.pathsep.join(["", "/a", ".", "b", "/c"])})
    assert found == {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(["/a", "/c"])}


def test_a_worker_ends_when_its_launcher_is_killed(tmp_path: Path) -> None:
    """Else the same command would start a second one beside it."""
    code = (
        "import os, subprocess, sys, time\n"
        "worker = 'import os, time; from ltgc_local.pipeline.worker import end_with; '\n"
        "worker += 'end_with(int(os.environ[\"L\"])); '\n"
        "worker += 'print(os.getpid(), flush=True); time.sleep(60)'\n"
        "subprocess.Popen([sys.executable, '-c', worker], env=os.environ | {'L': str(os.getpid())})\n"
        "time.sleep(60)\n"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    worker = int(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail("the worker goes on without its launcher")
