"""One launcher in a run directory: dead ones are told from living ones, here, in other containers, on other nodes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.errors import ArtefactError, TryAgain
from ltgc_local.runs import lock
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.lock import Holder

HOLD = """
import sys
from pathlib import Path
from ltgc_local.runs.directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "DEAD_AFTER_S", 1.5)
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.2)


def claims(root: Path) -> list[Path]:
    return sorted(root.glob(lock.PATTERN))


def write_claim(root: Path, **changes: object) -> Path:
    """Write the claim of a launcher that is like this process but for ``changes``."""
    path = root / ".lock-other-1-0123456789abcdef"
    path.write_text(Holder.me().model_copy(update=changes).model_dump_json())
    return path


@pytest.mark.parametrize("moment", ["_others", "Holder.model_dump_json"])
def test_an_interrupt_while_it_is_claimed_leaves_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"ltgc_local.runs.lock.{moment}", interrupt)
        RunDirectory(tmp_path).locked().__enter__()
    assert claims(tmp_path) == []


def test_the_claim_is_there_while_it_is_held_and_gone_after(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "a/run")
    with run.locked():
        (path,) = claims(run.root)
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(TryAgain, match=f"process {os.getpid()} on .* runs here; wait for it, or end it"):
            run.locked().__enter__()
        assert claims(run.root) == [path]
    assert list(run.root.iterdir()) == []


def test_an_error_gives_the_run_back(tmp_path: Path) -> None:
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
        with pytest.raises(TryAgain, match=f"process {holder.pid} on"):
            run.locked().__enter__()
        holder.send_signal(signal.SIGKILL)  # it cannot clean up
        holder.wait()
    assert len(claims(tmp_path)) == 1
    with run.locked():
        (path,) = claims(tmp_path)
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert claims(tmp_path) == []


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    """As in a container that is started again: its launcher is process 1 each time."""
    write_claim(tmp_path, started="1")
    with RunDirectory(tmp_path).locked():
        assert len(claims(tmp_path)) == 1


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}, {"boot": "before"}], ids=str)
@pytest.mark.usefixtures("quick")
def test_a_claim_of_elsewhere_that_nobody_renews_is_taken_over(tmp_path: Path, changes: dict[str, str]) -> None:
    path = write_claim(tmp_path, **changes)
    said: list[str] = []
    start = time.monotonic()
    with RunDirectory(tmp_path).locked(said.append):
        assert time.monotonic() - start > 1.5
        assert path not in claims(tmp_path) and len(claims(tmp_path)) == 1
    assert len(said) == 1 and "waiting to see whether process" in said[0]


@pytest.mark.usefixtures("quick")
def test_a_claim_of_elsewhere_that_is_renewed_is_believed_whatever_its_clock_says(tmp_path: Path) -> None:
    path = write_claim(tmp_path, host="elsewhere")
    done = threading.Event()

    def renew() -> None:
        stamp = 0
        while not done.wait(0.3):
            stamp += 1
            os.utime(path, (stamp, stamp))  # a clock of 1970

    beat = threading.Thread(target=renew)
    beat.start()
    try:
        with pytest.raises(TryAgain, match=f"process {os.getpid()} on elsewhere runs here"):
            RunDirectory(tmp_path).locked().__enter__()
    finally:
        done.set()
        beat.join()
    assert claims(tmp_path) == [path]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def link(path: Path) -> None:
    (path.parent.parent / "target").write_text("precious")
    path.symlink_to(path.parent.parent / "target")


@pytest.mark.parametrize("make", [empty, link, os.mkfifo], ids=["empty", "a link", "a FIFO"])
@pytest.mark.usefixtures("quick")
def test_what_is_no_claim_blocks_nobody_for_ever(tmp_path: Path, make: Callable[[Path], None]) -> None:
    root = tmp_path / "run"
    root.mkdir()
    make(root / ".lock-x-1-0")
    with RunDirectory(root).locked():
        assert len(claims(root)) == 1
    assert claims(root) == []
    if make is link:
        assert (tmp_path / "target").read_text() == "precious"


@pytest.mark.usefixtures("quick")
def test_a_launcher_whose_claim_was_taken_stops(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # else, in the background, this very process ends
    try:
        lose_the_claim(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("quick")
def test_a_launcher_whose_run_was_removed_stops_and_says_so(tmp_path: Path) -> None:
    before, run = signal.signal(signal.SIGINT, signal.default_int_handler), RunDirectory(tmp_path / "run")
    try:
        with pytest.raises(ArtefactError, match=r"run: was removed or replaced while"), run.locked():
            shutil.rmtree(tmp_path / "run")
            time.sleep(10)
    finally:
        signal.signal(signal.SIGINT, before)


def lose_the_claim(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(TryAgain, match="another launcher took this run over"), RunDirectory(tmp_path).locked():
        for path in claims(tmp_path):
            path.unlink()
        time.sleep(10)


DEAF = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
from pathlib import Path
from ltgc_local.runs import lock
from ltgc_local.runs.directory import RunDirectory
lock.HEARTBEAT_S = 0.2
root = Path(sys.argv[1])
with RunDirectory(root).locked():
    for path in root.glob(lock.PATTERN):
        path.unlink()
    time.sleep(30)
"""


def test_a_launcher_in_the_background_that_hears_no_interrupt_stops_too(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DEAF, str(tmp_path)], timeout=20)
    assert done.returncode == -signal.SIGTERM


RACE = """
import sys, time
from pathlib import Path
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.errors import TryAgain
root, start = Path(sys.argv[1]), float(sys.argv[2])
time.sleep(max(0, start - time.time()))
try:
    with RunDirectory(root).locked():
        with (root / "inside").open("x"):  # fails where another one is inside
            time.sleep(1.5)
        (root / "inside").unlink()
        print("held")
except TryAgain:
    print("refused")
"""


def test_of_launchers_that_come_at_once_to_a_dead_ones_run_exactly_one_holds_it(tmp_path: Path) -> None:
    for number in range(4):
        root = tmp_path / str(number)
        root.mkdir()
        write_claim(root, started="1")
        start = time.time() + 2
        command = [sys.executable, "-c", RACE, str(root), str(start)]
        racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        said = sorted(racer.communicate(timeout=60)[0].strip() for racer in racers)
        assert said == ["held", "refused", "refused", "refused"]
        assert list(root.iterdir()) == []


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    left = [tmp_path / "draw/.images-00003.parquet.4711.tmp", tmp_path / "decoded/.train-ab.npy.node1.17.tmp"]
    kept = [
        tmp_path / "draw/images-00002.parquet",
        tmp_path / "draw/.hidden",
        tmp_path / "superseded/0/draw/.images-00000.parquet.9.tmp",
    ]
    for path in left + kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with RunDirectory(tmp_path).locked():
        pass
    assert [path for path in left if path.exists()] == []
    assert all(path.exists() for path in kept)


def test_a_file_in_the_place_of_the_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/run"):
        with pytest.raises(ArtefactError, match="a file is where this folder belongs"):
            RunDirectory(tmp_path / place).locked().__enter__()
