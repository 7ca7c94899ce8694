"""Whether a step's files are what was written: their sha256 is compared before they are used.

Files are hashed in threads (hashlib releases Python's lock). Files found whole are remembered in ``verified.json``, for
as long as their size, times and inode stay the same. A copy of a run has other inodes, so a bit flipped while copying
is found. Files under a mebibyte are hashed each time, which costs nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path

from ltgc_local.errors import ArtefactError
from ltgc_local.prefetch import num_cpus
from ltgc_local.regular_files import MIB, digest_file
from ltgc_local.runs.disk import cannot_read
from ltgc_local.runs.schemas import FileFacts, Verified
from ltgc_local.runs.sealed import read_sealed, write_sealed

MEMORY = "verified.json"
REMEMBERED_FROM = MIB  # bytes
MAX_THREADS = 16
MAX_BLOCK = 64  # files that a thread takes at a time: handing one over costs as much as hashing a small one

Stamp = list[str | int]


def find_damage(
    folder: Path,
    wanted: Mapping[str, FileFacts],
    known: dict[Path, Stamp] | None = None,
    *,
    afresh: bool = False,
    remembers: bool = True,
) -> Iterator[tuple[Path, str]]:
    """Yield each file that is not what was written, and what is wrong with it.

    Args:
        wanted: name in the folder -> size and digest when it was written.
        known: files of any size that this process found whole; added to.
        afresh: hash all files, whatever is remembered.
        remembers: use ``verified.json``; for a few files of many, reading and writing it costs more than hashing them.

    Raises:
        ArtefactError: a file cannot be read, which is not damage.
    """
    known = {} if known is None else known
    memory = _read_memory(folder) if remembers and not afresh else {}
    found: dict[str, Stamp] = {}

    def look(name: str) -> str:
        path, facts = folder / name, wanted[name]
        try:
            state = path.lstat()
            if not stat.S_ISREG(state.st_mode):
                return "not a regular file"
            if state.st_size != facts.bytes:
                return f"{state.st_size} bytes, where {facts.bytes} were written"
            stamp = _stamp(state, facts.sha256)
            if stamp in (memory.get(name), known.get(path)):
                return ""
            if digest_file(path) != facts.sha256:
                return "its sha256 is not the one that it was written with"
        except FileNotFoundError:
            return "not there"
        except OSError as problem:
            raise cannot_read(path, problem) from None
        known[path] = stamp
        if facts.bytes >= REMEMBERED_FROM:
            found[name] = stamp
        return ""

    if len(wanted) < 2:
        problems = list(map(look, wanted))
    else:
        threads, names = min(MAX_THREADS, num_cpus()), list(wanted)
        size = min(MAX_BLOCK, -(-len(names) // (4 * threads)))
        blocks = (names[start : start + size] for start in range(0, len(names), size))
        with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
            problems = list(chain.from_iterable(pool.map(lambda block: list(map(look, block)), blocks)))
    if remembers and (found or (afresh and (folder / MEMORY).exists())):
        _write_memory(folder, memory | found)  # afresh, without what was remembered: a file may be damaged by now
    yield from ((folder / name, problem) for name, problem in zip(wanted, problems, strict=True) if problem)


def remember(folder: Path, whole: Mapping[str, FileFacts]) -> None:
    """Remember files that are known to be whole, such as links to files just verified elsewhere."""
    large = {name: facts for name, facts in whole.items() if facts.bytes >= REMEMBERED_FROM}
    stamps = {name: _stamp((folder / name).lstat(), facts.sha256) for name, facts in large.items()}
    if stamps:
        _write_memory(folder, _read_memory(folder) | stamps)


def _stamp(state: os.stat_result, digest: str) -> Stamp:
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, digest]


def _read_memory(folder: Path) -> dict[str, Stamp]:
    try:
        memory = read_sealed(folder / MEMORY, Verified, "")
    except ArtefactError:  # only a memory: the files are hashed again
        return {}
    return dict(memory.root) if memory is not None else {}


def _write_memory(folder: Path, memory: dict[str, Stamp]) -> None:
    with suppress(ArtefactError):  # a full or read-only disk: the files are hashed again
        write_sealed(folder / MEMORY, memory)
