"""Which process worked on which step, and when: ``<run>/timeline.jsonl``, a line per worker that ended.

    {"time": "2026-11-28T15:06:01.123Z", "step": "draw", "worker": 1, "seconds": 12.5, "cpu_seconds": 12.1, "code": 0}

It is for people, like logs: no result depends on it. ``chrome_trace`` turns it into what chrome://tracing and
https://ui.perfetto.dev show.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from ltgc_local.regular_files import MIB
from ltgc_local.runs.metrics import LiveFile, read_live

NAME = "timeline.jsonl"
MAX_BYTES = 64 * MIB  # at the end of the file


def note_worker(root: Path, step: str, worker: int, seconds: float, cpu_seconds: float, code: int) -> None:
    """Note a worker that has just ended."""
    facts = {"step": step, "worker": worker, "host": socket.gethostname(), "code": code}
    LiveFile(root / NAME).append(facts | {"seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3)})


def chrome_trace(root: Path) -> dict[str, Any]:
    """Return a run's timeline in Chrome's trace format: a process per host, a row per step and worker."""
    events, hosts, rows = [], dict[str, int](), dict[tuple[str, str, int], int]()
    for time, facts in read_live(root / NAME, MAX_BYTES):
        step, host, worker, seconds = (facts.get(key) for key in ("step", "host", "worker", "seconds"))
        if not isinstance(step, str) or not isinstance(host, str) or not isinstance(worker, int):
            continue
        if not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
            continue
        process = hosts.setdefault(host, len(hosts) + 1)
        row = rows.setdefault((host, step, worker), len(rows) + 1)
        start = (time.timestamp() - seconds) * 1e6  # in microseconds
        arguments = {key: facts[key] for key in ("cpu_seconds", "code") if isinstance(facts.get(key), int | float)}
        place = {"pid": process, "tid": row}
        events.append({"name": step, "ph": "X", "ts": start, "dur": seconds * 1e6, **place, "args": arguments})
    names = [{"name": "process_name", "ph": "M", "pid": pid, "args": {"name": host}} for host, pid in hosts.items()]
    names += [
        {"name": "thread_name", "ph": "M", "pid": hosts[host], "tid": row, "args": {"name": f"{step} {worker}"}}
        for (host, step, worker), row in rows.items()
    ]
    return {"traceEvents": names + events}
