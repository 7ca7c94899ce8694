"""One process runs in a run directory; a dead one's lock is taken over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ltgc_local.artefacts.directory import RunDirectory
from ltgc_local.errors import ArtefactError

HOLD = """
import sys
from pathlib import Path
from ltgc_local.artefacts.directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_is_there_while_it_is_held_and_gone_after(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "a/run")
    with run.locked():
        assert (run.root / ".lock").read_text() == f"{socket.gethostname()} {os.getpid()}"
        with pytest.raises(ArtefactError, match=f"process {os.getpid()} on .* runs here; wait for it, or .* type: rm "):
            run.locked().__enter__()
    assert list(run.root.iterdir()) == []


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunDirectory(tmp_path).locked():
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(ArtefactError, match=f"process {holder.pid} on"):
            run.locked().__enter__()
        holder.send_signal(signal.SIGKILL)  # it cannot clean up
        holder.wait()
    assert (tmp_path / ".lock").is_file()
    with run.locked():
        assert (tmp_path / ".lock").read_text().endswith(f" {os.getpid()}")
    assert not (tmp_path / ".lock").exists()


def test_a_process_of_another_machine_is_believed(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("elsewhere 1")
    with pytest.raises(ArtefactError, match="process 1 on elsewhere runs here"):
        RunDirectory(tmp_path).locked().__enter__()
    assert (tmp_path / ".lock").read_text() == "elsewhere 1"


def test_a_file_in_the_place_of_the_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/run"):
        with pytest.raises(ArtefactError, match="cannot be made a run directory"):
            RunDirectory(tmp_path / place).locked().__enter__()
