"""Metrics of a step: written line by line, read by anybody at any time."""

from __future__ import annotations

import json
import math
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ltgc_local.errors import BackendError
from ltgc_local.runs.metrics import MetricsWriter, metrics_path, read_metrics


def test_a_line_is_there_at_once_with_its_time_and_the_next_process_appends(tmp_path: Path) -> None:
    path = metrics_path(tmp_path / "train/ltgc")
    for loss in (2.5, 1.5):
        MetricsWriter(path).write({"step": 20, "loss": loss})
        (line,) = path.read_text().splitlines()[-1:]
        assert list(json.loads(line)) == ["time", "step", "loss"] and line.endswith("}")
    found = read_metrics(path)
    assert [line.values for line in found] == [{"step": 20, "loss": 2.5}, {"step": 20, "loss": 1.5}]
    assert all(abs(datetime.now(UTC) - line.time) < timedelta(minutes=1) for line in found)


def test_what_is_no_number_is_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsWriter(path).write({"few": None, "loss": math.nan, "lr": math.inf, "all": 50.0})
    assert [*json.loads(path.read_text())] == ["time", "all"]
    time = '"time": "2026-11-28T15:00:00Z"'
    with path.open("a") as file:
        file.write(f'[1]\n7\nno\n{{"all": 1}}\n{{"time": 3, "all": 1}}\n{{{time}, "a": true, "b": "x", "c": 1e400}}\n')
        file.write(f'{{{time}, "all": 60, "b": [1]}}\n{{{time}, "all": 6')  # the last one is being written
    assert [line.values for line in read_metrics(path)] == [{"all": 50.0}, {}, {"all": 60}]


def test_the_end_of_a_long_file_is_read_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    for step in range(100):
        writer.write({"step": step})
    tail = [line.values["step"] for line in read_metrics(path, 500)]
    assert tail == list(range(100 - len(tail), 100)) and 5 < len(tail) < 20


def test_there_is_nothing_to_read_where_nothing_was_written(tmp_path: Path) -> None:
    MetricsWriter().write({"loss": 1.0})  # such as of all but the first process that train together
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    os.mkfifo(tmp_path / "fifo")
    assert read_metrics(tmp_path / "fifo") == []


def test_a_link_is_not_followed_by_who_writes(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "mine")
    MetricsWriter(tmp_path / "metrics.jsonl").write({"loss": 1.0})
    assert (tmp_path / "mine").read_text() == "mine"


def test_tensorboard_that_is_not_installed_is_said_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    MetricsWriter(tmp_path / "a.jsonl")  # nobody asked for it
    with pytest.raises(BackendError, match=r"report\.tensorboard is true, .* type: pip install tensorboard, or --set"):
        MetricsWriter(tmp_path / "a.jsonl", tmp_path / "events")


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = MetricsWriter(tmp_path / "a.jsonl", tmp_path / "events")
    for step, loss in ((0, 2.5), (20, 1.5)):
        writer.write({"step": step, "loss": loss})
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 2.5), (20, 1.5)]
