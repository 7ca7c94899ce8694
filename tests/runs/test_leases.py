"""Leases of chunks: one worker each, given back at the end, taken over from the dead and not from the living."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ltgc_local.errors import ArtefactError
from ltgc_local.runs import leases as module
from ltgc_local.runs.leases import Leases
from ltgc_local.runs.lock import Holder


def write_lease(path: Path, **changes: object) -> None:
    path.write_text(Holder.me().model_copy(update=changes).model_dump_json())


def test_one_worker_holds_a_lease_until_it_gives_it_back(tmp_path: Path) -> None:
    one, other = Leases(tmp_path), Leases(tmp_path)
    with one.hold("00003") as is_mine:
        assert is_mine and (tmp_path / "00003.lease").is_file()
        with other.hold("00003") as is_mine:
            assert not is_mine
        assert (tmp_path / "00003.lease").is_file()
        with other.hold("00004") as is_mine:
            assert is_mine
        assert not other.may_be_had(["00003"]) and other.may_be_had(["00003", "00004"])
    assert list(tmp_path.iterdir()) == []


def test_a_lease_is_given_back_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Leases(tmp_path).hold("00000"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_dead_processes_lease_is_taken_at_once(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write_lease(tmp_path / "00000.lease", pid=dead.pid)
    with Leases(tmp_path).hold("00000") as is_mine:
        assert is_mine
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", '{"host": 7}', None])
def test_a_lease_from_elsewhere_is_taken_when_it_is_not_renewed_and_never_while_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr(module, "DEAD_AFTER_S", 0.3)
    path, worker = tmp_path / "00000.lease", Leases(tmp_path)
    write_lease(path, host="elsewhere")
    if content is not None:  # half-written
        path.write_text(content)
    for second in range(4):
        os.utime(path, (1000 + second, 1000 + second))  # its clock is wrong, but it beats
        with worker.hold("00000") as is_mine:
            assert not is_mine
        time.sleep(0.2)
    assert worker.may_be_had(["00000"])  # not renewed since: who waits will see
    assert not worker.is_free(["00000"]) and worker.is_free(["00000", "00001"])
    time.sleep(0.4)
    with worker.hold("00000") as is_mine:
        assert is_mine


def test_a_held_lease_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    with Leases(tmp_path).hold("00000"):
        path = tmp_path / "00000.lease"
        os.utime(path, (0, 0))
        time.sleep(0.5)
        assert path.stat().st_mtime > 0


def test_many_workers_that_want_one_lease_get_it_one_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from ltgc_local.runs.leases import Leases\n"
        "folder, leases = pathlib.Path(sys.argv[1]), Leases(pathlib.Path(sys.argv[1]))\n"
        "for number in range(60):\n"
        "    with leases.hold(f'{number:05d}') as is_mine:\n"
        "        if is_mine and not (folder / f'{number}.done').exists():\n"
        "            time.sleep(0.002); open(folder / f'{number}.done', 'x').close()\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4  # open("x") fails where two make the same
    assert len(list(tmp_path.glob("*.done"))) == 60 and not list(tmp_path.glob("*.lease"))


def test_a_folder_that_cannot_be_written_to_is_an_error_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "chunks").write_text("a file")
    with (
        pytest.raises(ArtefactError, match=r"cannot be written|a file is where"),
        Leases(tmp_path / "chunks").hold("0"),
    ):
        pass
