"""A worker's log: times and levels, what libraries print, and the warnings that last."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ltgc_local.runs import logs
from ltgc_local.runs.logs import Level, read_messages, read_warnings, worker_logs

STAGE = logging.getLogger("ltgc_local.methods.ltgc.stages.extend")
BACKEND = logging.getLogger("ltgc_local.backends.sdxl.vae")
LIBRARY = logging.getLogger("some_library")
TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (INFO|WARNING|ERROR) [\w.]+: .*")


def log_of(folder: Path, worker: int = 0) -> list[str]:
    return (folder / f"logs/worker-{worker:02d}.log").read_text("utf-8").splitlines()


def speak() -> None:
    STAGE.info("loading")
    STAGE.warning("found nothing for 2 of 3 classes")
    BACKEND.warning("decoded again")
    LIBRARY.info("hello")
    LIBRARY.warning("deprecated")


def test_every_record_is_a_line_with_time_and_level_and_a_resumed_step_appends(tmp_path: Path) -> None:
    for times in (1, 2):
        with worker_logs(tmp_path, 0):
            speak()
        lines = log_of(tmp_path)
        assert len(lines) == 5 * times and all(TIMED.fullmatch(line) for line in lines)
    assert lines[0].endswith("INFO ltgc_local.methods.ltgc.stages.extend: loading")
    assert lines[4].endswith("WARNING some_library: deprecated")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("error", []),
        (
            "warning",
            [
                "warning: found nothing for 2 of 3 classes",
                "warning: decoded again",
                "warning: some_library: deprecated",
            ],
        ),
        (
            "info",
            [
                "info: loading",
                "warning: found nothing for 2 of 3 classes",
                "warning: decoded again",
                "warning: some_library: deprecated",
            ],
        ),
    ],
)
def test_standard_error_has_what_was_asked_for_and_the_log_has_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], level: Level, expected: list[str]
) -> None:
    with worker_logs(tmp_path, 0, level):
        speak()
    assert capsys.readouterr().err.splitlines() == expected
    assert len(log_of(tmp_path)) == 5


def test_an_error_is_said_in_its_own_words_and_the_log_says_where_it_was_raised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(traceback: bool) -> str:
        with worker_logs(tmp_path, 0, "error", traceback):
            try:
                raise ValueError("too\x1b[2Jfew")
            except ValueError as problem:
                STAGE.error("%s", problem, exc_info=problem)
        return capsys.readouterr().err

    assert fail(traceback=False) == "too\\x1b[2Jfew\n"
    assert fail(traceback=True).startswith("Traceback (most recent call last):")
    log = log_of(tmp_path)
    assert "\\x1b" in log[0] and TIMED.fullmatch(log[0])
    assert log[1] == "    Traceback (most recent call last):"  # indented, so that no message looks like a record


def test_what_libraries_print_on_standard_error_is_in_the_log_and_a_bar_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.stderr
    with worker_logs(tmp_path, 0, "error"):
        print("half a ", end="", file=sys.stderr)
        print("line", file=sys.stderr)
        for done in range(3):
            sys.stderr.write(f"\r{done} of 3")
        sys.stderr.write("\r      \r")
        print("after\x07", file=sys.stderr)
    assert sys.stderr is before
    lines = log_of(tmp_path)
    assert lines[0].endswith("INFO stderr: half a line")
    assert lines[1].endswith("INFO stderr: after\\x07") and len(lines) == 2
    assert "half a line\n" in capsys.readouterr().err


def test_the_methods_warnings_and_the_error_at_the_end_are_kept_each_once(tmp_path: Path) -> None:
    for worker in (0, 0, 1):
        with worker_logs(tmp_path, worker, "error"):
            speak()
    with worker_logs(tmp_path, 1, "error"):
        logging.getLogger("ltgc_local.pipeline.worker").error("no memory")
    assert read_warnings(tmp_path) == ["found nothing for 2 of 3 classes"]
    assert [(message.level, message.text) for message in read_messages(tmp_path)] == [
        ("warning", "found nothing for 2 of 3 classes"),
        ("error", "no memory"),
    ]


def test_a_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_LOG_BYTES", 2000)
    with worker_logs(tmp_path, 0, "error"):
        for number in range(200):
            STAGE.info("chunk %d", number)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "logs").glob("worker*")}
    assert set(sizes) == {"worker-00.log", "worker-00.log.1"} and max(sizes.values()) <= 2000
    assert log_of(tmp_path)[-1].endswith("chunk 199")


@pytest.mark.parametrize("place", ["file", "link", "linked file"])
def test_a_log_that_cannot_be_written_stops_nothing_and_no_link_is_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "step").mkdir()
    (tmp_path / "elsewhere").mkdir()
    if place == "file":
        (tmp_path / "step/logs").write_text("")
    elif place == "link":
        (tmp_path / "step/logs").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "step/logs").mkdir()
        (tmp_path / "step/logs/worker-00.log").symlink_to(tmp_path / "elsewhere/log")
    with worker_logs(tmp_path / "step", 0):
        BACKEND.warning("decoded again")
    assert capsys.readouterr().err == "warning: decoded again\n"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_nothing_is_left_of_it_in_the_process(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    with worker_logs(tmp_path, 0):
        assert root.handlers != before[0]
    assert (root.handlers, root.level) == before


def test_a_crash_in_native_code_leaves_its_place_in_the_log(tmp_path: Path) -> None:
    code = (
        "import ctypes, pathlib, sys; from ltgc_local.runs.logs import worker_logs\n"
        "def crash(): ctypes.string_at(0)\n"
        "with worker_logs(pathlib.Path(sys.argv[1]), 0): crash()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    assert done.returncode < 0
    assert "Fatal Python error: Segmentation fault" in "\n".join(log_of(tmp_path))
    assert any(line.strip().endswith("in crash") for line in log_of(tmp_path))
