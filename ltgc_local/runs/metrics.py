"""What a step reports while it runs: ``<step>/metrics.jsonl``, one JSON object per line, with its time.

    {"time": "2026-11-28T15:06:01.123Z", "items": 128, "total": 2400, "items_per_second": 3.2, "seconds": 41.0, …}
    {"time": "2026-11-28T15:06:02.456Z", "step": 40, "loss": 0.81, "lr": 0.003, "images_per_second": 640.0, …}
    {"time": "2026-11-28T15:09:00.000Z", "step": 50, "epoch": 0, "validation/all": 71.3, "validation/few": 40.0}

A step's first worker writes this file. Others that share its chunks write ``<step>/logs/metrics-01.jsonl`` and so on,
because lines are lost when several nodes append to one file on a network file system. The files are appended to when a
step resumes. They are not artefacts: no manifest names them, and no result depends on them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from ltgc_local.errors import BackendError
from ltgc_local.regular_files import MIB, open_regular, open_to_append, parse_json

MAX_READ_BYTES = 256 * MIB  # at the end of a file
TAIL_BYTES = 256 * 1024  # enough for the last line of each kind
MAX_VALUE = 1e15  # larger values and NaN are not read: a received run may contain anything


@dataclass(frozen=True)
class MetricsLine:
    """One line: its numbers by name, and when it was written."""

    time: datetime
    values: Mapping[str, float]


def metrics_path(folder: Path, worker: int = 0) -> Path:
    """Return the file of a worker's metrics."""
    return folder / "logs" / f"metrics-{worker:02d}.jsonl" if worker else folder / "metrics.jsonl"


def read_metrics(path: Path, max_bytes: int = MAX_READ_BYTES) -> list[MetricsLine]:
    """Read a metrics file, or its last ``max_bytes``; lines that are not complete are left out."""
    return [
        MetricsLine(time, {name: value for name, value in values.items() if _is_number(value)})
        for time, values in read_live(path, max_bytes)
    ]


class MetricsWriter:
    """Appends lines of numbers to a metrics file, unbuffered; without a path it writes nothing."""

    def __init__(self, path: Path | None = None, tensorboard: Path | None = None) -> None:
        """Prepare a writer; the file is opened with the first line.

        Args:
            path: given to the first process only, where several train together.
            tensorboard: a folder for the same numbers as TensorBoard event files; without the package that writes
                them, this is a BackendError.
        """
        self._file = LiveFile(path) if path is not None else None
        self._events = _open_events(tensorboard) if path is not None and tensorboard is not None else None
        self._lines = 0

    def write(self, values: Mapping[str, float | int | None]) -> None:
        """Append a line with the time and these values; those that are not finite are left out."""
        if self._file is None:
            return
        finite = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        self._file.append(finite := _gpu_memory() | finite)
        self._lines += 1
        if self._events is not None:
            place = int(finite.get("step", finite.get("epoch", finite.get("items", self._lines))))
            for name, value in finite.items():
                self._events.add_scalar(name, value, place)
            self._events.flush()


class LiveFile:
    """A file of JSON objects that others read while it grows: each line has its time and is written unbuffered.

    A line that cannot be written is dropped: writing the step's own files will say what is wrong with the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def append(self, values: Mapping[str, Any]) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with suppress(OSError):
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open_to_append(self._path)
            self._file.write(json.dumps({"time": time, **values}) + "\n")


def read_live(path: Path, max_bytes: int) -> list[tuple[datetime, dict[str, Any]]]:
    """Read the last lines of a file that may be growing and that anybody may have written."""
    try:
        with open_regular(path) as file:
            start = max(0, file.seek(0, 2) - max_bytes)
            file.seek(start)
            lines = file.read(max_bytes).split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines[1:] if start else lines:
        with suppress(ValueError, TypeError, KeyError):  # half-written, or not ours
            if isinstance(value := parse_json(line.decode()), dict):
                time = datetime.fromisoformat(value.pop("time"))
                found.append((time if time.tzinfo else time.replace(tzinfo=UTC), value))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_VALUE


def _gpu_memory() -> dict[str, int]:
    """Return this process's peak GPU memory, if it uses a GPU; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {"gpu_memory_mib": torch.cuda.max_memory_allocated() // MIB}


def _open_events(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BackendError(
            "report.tensorboard is true, and the package that writes TensorBoard's files is missing; "
            "type: pip install tensorboard, or --set report.tensorboard=false"
        ) from None
    return SummaryWriter(str(folder))
