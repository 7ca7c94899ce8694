"""One launcher per run directory: a claim with a heartbeat, because file locks fail on some shared file systems.

    .lock-<host>-<pid>-<random>    who holds the run; its time is renewed every few seconds; removed at the end

A launcher writes its own claim and then looks for others. Of two that start at once, each sees the other's claim; both
remove theirs and try again after a random pause. So two never hold the run. Names are never reused, so it is safe to
remove a dead holder's claim. A holder is dead

- at once, if it was a process of this machine, boot and PID namespace and is gone, even if its number was reused;
- otherwise, as in another container or on another node, if its claim is not renewed for ``DEAD_AFTER_S`` while we
  watch. Our own clock measures that, so differing clocks do not matter.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltgc_local.errors import ArtefactError, TryAgain
from ltgc_local.regular_files import MIB, read_bytes
from ltgc_local.runs.disk import RECIPE, cannot_write

HEARTBEAT_S = 5.0
DEAD_AFTER_S = 30.0
TRIES = 8  # of launchers that start at once
PATTERN = ".lock-*"


class Holder(BaseModel):
    """Who wrote a claim; what the system does not tell is empty."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    host: str
    pid: int = Field(gt=0, lt=2**31)
    boot: str  # changes when the machine starts
    namespace: str  # of process numbers: every container has its own
    started: str  # when the process started, in the system's ticks: process numbers are reused
    is_shared: bool = False  # it works beside others that share the run, and not beside a launcher

    @classmethod
    def me(cls, *, is_shared: bool = False) -> Holder:
        return cls(
            is_shared=is_shared,
            host=socket.gethostname(),
            pid=os.getpid(),
            boot=_read_proc("/proc/sys/kernel/random/boot_id"),
            namespace=_namespace(),
            started=_start_of(os.getpid()),
        )

    def is_alive(self, me: Holder) -> bool | None:
        """Return whether the process is alive; None if only its heartbeat can tell."""
        if (self.host, self.boot, self.namespace) != (me.host, me.boot, me.namespace):
            return None
        started = _start_of(self.pid)
        return started == self.started if started and self.started else _exists(self.pid)


@dataclass(frozen=True)
class Claim:
    """A launcher's claim as it was seen; ``holder`` is None if the file does not say."""

    path: Path
    holder: Holder | None
    renewed_ns: int

    def __str__(self) -> str:
        if self.holder is None:
            return f"another launcher ({self.path.name})"
        return f"process {self.holder.pid} on {self.holder.host}"


@contextmanager
def locked(root: Path, log: Callable[[str], None], *, is_shared: bool = False) -> Iterator[None]:
    """Hold a run directory.

    Args:
        log: called with the reason if it takes a while, because a launcher elsewhere may be dead.
        is_shared: beside others that share it, of which each does what none of the others does.

    Raises:
        ArtefactError: it was removed.
        TryAgain: a live process holds it; or another took it over, because this one showed no sign of life.
    """
    me = Holder.me(is_shared=is_shared)
    own = _name(me)
    lost, done = threading.Event(), threading.Event()
    heart: threading.Thread | None = None
    try:
        path = _acquire(root, own, me, log)
        heart = threading.Thread(target=_beat, args=(path, lost, done), name="heartbeat", daemon=True)
        heart.start()
        yield
    except BaseException:  # an interrupt, or what followed from two launchers in one run
        if lost.is_set() and not (root / RECIPE).exists():
            raise ArtefactError(
                f"{root}: was removed or replaced while the run was at work; bring it back and rerun the same command "
                "to resume, or else the run begins anew"
            ) from None
        if lost.is_set():
            raise TryAgain(
                f"{root}: another launcher took this run over, because this one gave no sign of life for "
                f"{DEAD_AFTER_S:.0f} s; when that one is done, the same command resumes"
            ) from None
        raise
    finally:
        done.set()
        if heart is not None and heart.is_alive():
            heart.join()
        with suppress(OSError):  # the folder may be gone, or its file system
            for path in root.glob(f"{own}-*"):
                path.unlink(missing_ok=True)


def _acquire(root: Path, own: str, me: Holder, log: Callable[[str], None]) -> Path:
    watched: dict[Path, tuple[int, float]] = {}  # claim -> when it was renewed last, and since when it is seen so
    tries, told = 0, False
    while True:
        path = _write_claim(root, own, me)
        others = _others(root, path, me)
        if not others:
            return path
        path.unlink(missing_ok=True)
        silent = [claim for claim in others if claim.holder is None or claim.holder.is_alive(me) is None]
        if len(silent) < len(others):
            tries += 1
            if tries == TRIES:
                living = next(claim for claim in others if claim not in silent)
                raise TryAgain(f"{root}: {living} runs here; wait for it, or end it")
            time.sleep(random.uniform(0.01, 0.1))
            continue
        if not told:
            log(f"{root}: waiting to see whether {silent[0]} is alive …")
            told = True
        for claim in silent:
            seen, since = watched.get(claim.path, (claim.renewed_ns, time.monotonic()))
            if seen != claim.renewed_ns:
                raise TryAgain(f"{root}: {claim} runs here; wait for it, or end it")
            watched[claim.path] = seen, since
            if time.monotonic() - since > DEAD_AFTER_S:
                claim.path.unlink(missing_ok=True)
        time.sleep(random.uniform(0.2, 0.4))


def _name(me: Holder) -> str:
    """Return what the names of this process's claims begin with, however often it tries, and no other's."""
    host = re.sub(r"[^A-Za-z0-9.-]", "_", me.host)[:64]
    return f".lock-{host}-{me.pid}-{secrets.token_hex(4)}"


def _write_claim(root: Path, own: str, me: Holder) -> Path:
    path = root / f"{own}-{secrets.token_hex(4)}"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(me.model_dump_json())
    except OSError as problem:
        with suppress(OSError):  # on a full disk an empty claim may be there; on a read-only one there is none
            path.unlink(missing_ok=True)
        raise cannot_write(root, problem) from None
    return path


def is_held(root: Path) -> bool:
    """Return whether a launcher runs here, without waiting or writing: for one elsewhere, by its claim's time."""
    me = Holder.me()
    for claim in _claims(root):
        is_alive = claim.holder.is_alive(me) if claim.holder is not None else None
        if is_alive or (is_alive is None and time.time() - claim.renewed_ns / 1e9 < DEAD_AFTER_S):
            return True
    return False


def _others(root: Path, own: Path, me: Holder) -> list[Claim]:
    """Return the other claims; remove those of processes known to be gone."""
    found = []
    for claim in _claims(root):
        if claim.path == own:
            continue
        if claim.holder is not None and claim.holder.is_alive(me) is False:
            claim.path.unlink(missing_ok=True)
        elif claim.holder is None or not (claim.holder.is_shared and me.is_shared):
            found.append(claim)
    return found


def _claims(root: Path) -> Iterator[Claim]:
    for path in root.glob(PATTERN):
        try:
            renewed = path.lstat().st_mtime_ns
            holder = Holder.model_validate_json(read_bytes(path, MIB)) if not path.is_symlink() else None
        except FileNotFoundError:
            continue
        except (OSError, ValidationError):  # half-written, or not a claim at all: its time tells
            holder = None
        yield Claim(path, holder, renewed)


def _beat(path: Path, lost: threading.Event, done: threading.Event) -> None:
    """Renew the claim until it is released; if it is gone, interrupt the main thread."""
    while not done.wait(HEARTBEAT_S):
        try:
            os.utime(path)
        except FileNotFoundError:
            lost.set()
            # Shells start background jobs with interrupts ignored: these end silently, and so do their workers.
            is_deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM if is_deaf else signal.SIGINT)
            return
        except OSError:  # the file system is away for a moment; the next beat, or the work itself, notices if it stays
            continue


def _start_of(pid: int) -> str:
    """Return field 22 of /proc/<pid>/stat, or "" without such a process or without /proc."""
    # The second field is the program's name in brackets, and may itself contain blanks and brackets.
    return (_read_proc(f"/proc/{pid}/stat").rpartition(")")[2].split() or [""] * 20)[19]


def _read_proc(path: str) -> str:
    try:
        return read_bytes(path, MIB).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as problem:
        return not isinstance(problem, ProcessLookupError)
    return True
