"""Leases of a step's chunks: which of its workers makes which, wherever they run and whenever they come or go.

    <step>/chunks/00003.lease    who makes chunk 3; its time is renewed every few seconds; removed when it is complete

A lease is taken by creating the file exclusively, which also holds on network file systems. One whose holder is dead
(``runs.lock`` says when) is renamed away and taken anew. Where two workers nevertheless make the same chunk, both write
the same bytes.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from ltgc_local.regular_files import MIB, read_bytes
from ltgc_local.runs.disk import cannot_write, make_folder
from ltgc_local.runs.lock import DEAD_AFTER_S, HEARTBEAT_S, Holder

LEASE = ".lease"
POLL_S = 0.2


class Leases:
    """The leases in one folder, as one worker takes them: one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._me = Holder.me()
        self._seen: dict[Path, tuple[int, float]] = {}  # when it was renewed last, and since when that is so

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Hold a lease while the block runs, if it can be had; yield whether it could."""
        path = self._folder / f"{name}{LEASE}"
        if not self._take(path):
            yield False
            return
        done = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, done), name="lease", daemon=True)
        heart.start()
        try:
            yield True
        finally:
            done.set()
            heart.join()
            path.unlink(missing_ok=True)

    def may_be_had(self, names: Iterable[str]) -> bool:
        """Return whether one of these leases may be had soon: it is free, or its holder shows no sign of life."""
        return any(self._is_alive(self._folder / f"{name}{LEASE}") is not True for name in names)

    def is_free(self, names: Iterable[str]) -> bool:
        """Return whether one of these leases is free, or its holder dead, as far as is known by now."""
        return any(self._is_alive(self._folder / f"{name}{LEASE}") is False for name in names)

    def _take(self, path: Path) -> bool:
        while True:
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(self._me.model_dump_json())
                return True
            except FileExistsError:
                if self._is_alive(path) is not False or not _put_away(path):
                    return False
            except FileNotFoundError:
                make_folder(path.parent)
            except OSError as problem:
                with suppress(OSError):  # on a full disk an empty one may be there
                    path.unlink(missing_ok=True)
                raise cannot_write(path, problem) from None

    def _is_alive(self, path: Path) -> bool | None:
        """Return whether a lease is held by a living worker: None if its heartbeat has to tell, and did not yet."""
        try:
            renewed = path.lstat().st_mtime_ns
            holder = Holder.model_validate_json(read_bytes(path, MIB)) if not path.is_symlink() else None
        except FileNotFoundError:
            return False
        except (OSError, ValidationError):  # half-written, or not a lease at all: its time tells
            holder = None
        known = holder.is_alive(self._me) if holder is not None else None
        if known is not None:
            return known
        seen, since = self._seen.get(path, (renewed, time.monotonic()))
        if seen != renewed:
            self._seen[path] = renewed, time.monotonic()
            return True
        self._seen[path] = seen, since
        return False if time.monotonic() - since > DEAD_AFTER_S else None


def _put_away(path: Path) -> bool:
    """Rename a dead worker's lease; of several that try, one succeeds."""
    target = path.with_name(f".{path.name}.{secrets.token_hex(8)}.dead")
    try:
        os.replace(path, target)
    except OSError:
        return False
    target.unlink(missing_ok=True)
    return True


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        with suppress(OSError):  # taken over, or the file system is away for a moment: at worst the chunk is made twice
            os.utime(path)
