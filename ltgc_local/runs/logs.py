"""A step's logs, and the warnings that ``status`` and the report repeat.

<step>/logs/worker-00.log        a worker's log records, and what libraries print on standard error
<step>/logs/messages-00.jsonl    the method's warnings, and the error that ended the worker

Both are appended to when a step resumes. They are not artefacts; the step's manifest keeps the warnings.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal, TextIO

from tqdm import tqdm

from ltgc_local.printable import printable
from ltgc_local.regular_files import MIB, open_to_append
from ltgc_local.runs.metrics import LiveFile, read_live

#: The lowest level shown on standard error; ``info`` only applies to our own records, others are shown from warnings.
Level = Literal["error", "warning", "info"]

MAX_LOG_BYTES = 16 * MIB  # then a new log begins, and the previous one is kept as worker-00.log.1
MAX_MESSAGES, MAX_MESSAGE = 100, 2000  # kept per step, and characters of one; the manifest's schema has the same limits
OURS = "ltgc_local"
METHODS = "ltgc_local.methods"  # its warnings are about results; the backends' are about speed and memory


@dataclass(frozen=True)
class Message:
    """A warning or an error that a step's worker recorded."""

    time: datetime
    level: str
    text: str


def read_messages(folder: Path) -> list[Message]:
    """Return the messages of the step's workers, each text once, in order of time."""
    found: dict[tuple[str, str], Message] = {}
    for path in (folder / "logs").glob("messages-*.jsonl"):
        for time, values in read_live(path, MAX_MESSAGES * MAX_MESSAGE):
            level, text = values.get("level"), values.get("text")
            if isinstance(level, str) and isinstance(text, str):
                message = Message(time, level, text[:MAX_MESSAGE])
                found[level, text] = max(message, found.get((level, text), message), key=lambda one: one.time)
    return sorted(found.values(), key=lambda message: message.time)[-MAX_MESSAGES:]


def read_warnings(folder: Path) -> list[str]:
    """Return the texts of the step's warnings."""
    return [message.text for message in read_messages(folder) if message.level == "warning"]


@contextmanager
def worker_logs(folder: Path, worker: int, level: Level = "warning", traceback: bool = False) -> Iterator[None]:
    """Log to a step's folder and to standard error; what others print there is logged as well.

    Args:
        folder: the step's; if nothing can be written there, only standard error is used.
        level: the lowest level shown on standard error.
        traceback: show where an error was raised.
    """
    root, place = logging.getLogger(), folder / "logs"
    with ExitStack() as stack:
        handlers: list[logging.Handler] = [_Messages(place / f"messages-{worker:02d}.jsonl")]
        with suppress(OSError):  # writing the step's own files will say what is wrong
            place.mkdir(parents=True, exist_ok=True)
            if not place.is_symlink():
                handlers.append(_LogFile(path := place / f"worker-{worker:02d}.log"))
                if not faulthandler.is_enabled():  # a crash in native code leaves its Python stack in the log
                    faulthandler.enable(stack.enter_context(open_to_append(path)))
                    stack.callback(faulthandler.disable)
        if sys.stderr is not None:
            handlers.append(_Stderr(sys.stderr, level, traceback))
            stack.callback(setattr, sys, "stderr", sys.stderr)
            sys.stderr = _Copied(sys.stderr, handlers[1:-1])
        stack.callback(root.setLevel, root.level)
        root.setLevel(logging.INFO)
        for handler in handlers:
            root.addHandler(handler)
            stack.callback(handler.close)
            stack.callback(root.removeHandler, handler)
        yield


class _LogFile(RotatingFileHandler):
    """Records with time and level, one per line; continuation lines are indented."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8")
        self.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z")
        )

    def _open(self) -> TextIO:  # type: ignore[override]
        return open_to_append(Path(self.baseFilename))

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record)).replace("\n", "\n    ")

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore it: if the disk is full, writing the step's own files will say so."""


class _Stderr(logging.StreamHandler[TextIO]):
    """What a user reads: our errors as they are, other records with their level, other packages' with their logger."""

    def __init__(self, stream: TextIO, level: Level, traceback: bool) -> None:
        super().__init__(stream)
        self.setLevel(level.upper())
        self._traceback = traceback

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or _is_of(record, OURS)

    def format(self, record: logging.LogRecord) -> str:
        text, level = record.getMessage(), record.levelname.lower()
        if not _is_of(record, OURS):
            text = f"{level}: {record.name}: {text}"
        elif record.exc_info and (self._traceback or record.levelno > logging.ERROR):
            text = logging.Formatter().formatException(record.exc_info)
        elif record.levelno < logging.ERROR:
            text = f"{level}: {text}"
        return printable(text)

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=sys.stderr):  # a progress bar makes room and is redrawn
            super().emit(record)


class _Messages(logging.Handler):
    """The method's warnings, and the error that ends the worker."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self._file = LiveFile(path)

    def filter(self, record: logging.LogRecord) -> bool:
        return _is_of(record, METHODS) or (record.levelno >= logging.ERROR and _is_of(record, OURS))

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._file.append({"level": level, "text": printable(record.getMessage())[:MAX_MESSAGE]})


class _Copied:
    """Standard error that also logs each complete line: what libraries and tracebacks print there."""

    def __init__(self, stream: TextIO, handlers: list[logging.Handler]) -> None:
        self._stream, self._handlers, self._line = stream, handlers, ""

    def write(self, text: str) -> int:
        *lines, rest = (self._line + text).split("\n")
        self._line = rest.rpartition("\r")[2][:MAX_MESSAGE]  # a progress bar overwrites itself and never ends its line
        for line in lines:
            shown = line.rpartition("\r")[2] or line.strip("\r")
            record = logging.LogRecord("stderr", logging.INFO, "", 0, "%s", (shown,), None)
            for handler in self._handlers if shown.strip() else ():
                handler.handle(record)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _is_of(record: logging.LogRecord, logger: str) -> bool:
    return record.name == logger or record.name.startswith(f"{logger}.")
