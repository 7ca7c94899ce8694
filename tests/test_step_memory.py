"""A step's process ends with the step, and a run needs no more memory than its largest step: watched from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "describe.tail_below=12",
    "extend.max_descriptions=12",
    "extend.max_asks=1",
    "draw.steps=1",
    "models.workers=1",
)
LAUNCHER_MIB = 600  # what the launcher itself may hold: data and pyarrow, no model
SERVER_MIB = 300  # of the fork server's pages, those that it no longer shares with a worker
SAMPLING_S = 0.1


def tree(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += tree(int(child))
    return found


def resident_mib(pid: int) -> float:
    """Return a process's share of memory: pages that it shares, such as with a fork of itself, are divided."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def is_worker(pid: int) -> bool:
    """Return whether a process is a worker: a fork of the server that has imported the libraries."""
    return is_server(pid) and is_server(parent(pid))


def is_server(pid: int) -> bool:
    try:
        return b"ltgc_local.pipeline.executors.fork_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_one_step_at_a_time_is_in_memory_and_none_is_left(tmp_path: Path) -> None:
    out = tmp_path / "run"
    sets = [word for option in SMALL for word in ("--set", option)]
    command = [sys.executable, "-m", "ltgc_local.cli", "run", str(ROOT / "recipes/quickstart.yaml"), *sets]
    process = subprocess.Popen([*command, "--to", "draw", "--out", str(out)], stderr=subprocess.DEVNULL)
    workers_seen, most_at_once, largest, own = set[int](), 0, 0.0, 0.0
    while process.poll() is None:
        try:
            pids = tree(process.pid)
        except (FileNotFoundError, ProcessLookupError):  # a process ended while it was looked at
            continue
        workers = [pid for pid in pids if is_worker(pid)]
        workers_seen |= set(workers)
        most_at_once = max(most_at_once, len(workers))
        largest = max(largest, sum(map(resident_mib, pids)))
        own = max(own, resident_mib(process.pid))
        time.sleep(SAMPLING_S)
    assert process.returncode == 0
    assert len(workers_seen) == 3, "describe, extend and draw each had a process of its own"
    assert most_at_once == 1
    assert not [pid for pid in workers_seen if is_worker(pid)], "a step's process outlives it"
    peaks = {
        step: json.loads((out / step / "manifest.json").read_text())["peak_mib"]
        for step in ("describe", "extend", "draw")
    }
    assert own < LAUNCHER_MIB
    assert largest <= max(peaks.values()) + own + SERVER_MIB, (largest, peaks, own)
    assert sum(peaks.values()) > largest, "all three at once would have shown"
