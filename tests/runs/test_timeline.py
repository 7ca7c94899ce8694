"""The timeline of a run: which worker worked on which step, and when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ltgc_local.runs.timeline import NAME, chrome_trace, note_worker


def test_a_trace_has_a_row_per_step_and_worker(tmp_path: Path) -> None:
    note_worker(tmp_path, "draw", 0, 2.0, 1.5, 0)
    note_worker(tmp_path, "draw", 1, 1.0, 0.5, 0)
    note_worker(tmp_path, "draw", 0, 4.0, 1.5, 75)  # resumed, and stopped
    events = chrome_trace(tmp_path)["traceEvents"]
    drawn = [event for event in events if event["ph"] == "X"]
    assert [(event["name"], event["dur"]) for event in drawn] == [("draw", 2e6), ("draw", 1e6), ("draw", 4e6)]
    assert drawn[0]["tid"] == drawn[2]["tid"] != drawn[1]["tid"]
    assert drawn[2]["args"] == {"cpu_seconds": 1.5, "code": 75}
    assert {event["args"]["name"] for event in events if event["name"] == "thread_name"} == {"draw 0", "draw 1"}
    last = json.loads((tmp_path / NAME).read_text().splitlines()[0])
    assert set(last) == {"time", "step", "worker", "host", "code", "seconds", "cpu_seconds"}


@pytest.mark.parametrize(
    "line", ["", "[]", "{", '{"time": 3}', '{"time": "2026-11-28T00:00:00Z", "step": 7}', "\x00" * 99]
)
def test_a_timeline_that_somebody_else_wrote_is_no_trap(tmp_path: Path, line: str) -> None:
    (tmp_path / NAME).write_text(line + "\n")
    note_worker(tmp_path, "draw", 0, 1.0, 1.0, 0)
    assert [event["name"] for event in chrome_trace(tmp_path)["traceEvents"] if event["ph"] == "X"] == ["draw"]


def test_a_run_without_a_timeline_has_an_empty_trace(tmp_path: Path) -> None:
    assert chrome_trace(tmp_path) == {"traceEvents": []}
    done = subprocess.run([sys.executable, "-m", "ltgc_local", "status", "--help"], capture_output=True, text=True)
    assert "--trace FILE" in done.stdout
