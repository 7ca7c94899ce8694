"""Read files that others made: only regular files, and no more bytes than expected.

Opening a FIFO hangs, and a device such as /dev/zero never ends. Every file that a user or a received folder names is
opened here, or checked here before a library opens it. What is wrong is an ``OSError`` whose ``strerror`` says it in
words, so callers treat it like any unreadable file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, TextIO

MIB = 2**20
#: The largest JSON file that is parsed: the manifest of a million images has about 60 MB.
MAX_JSON_BYTES = 256 * MIB
#: The largest list, table or annotation file: iNaturalist 2018's largest has about 120 MB.
MAX_LIST_BYTES = 1024 * MIB

_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def open_regular(path: Path | str, max_bytes: int | None = None) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than ``max_bytes``.
    """
    return os.fdopen(_open(path, os.O_RDONLY, max_bytes), "rb")


def open_to_append(path: Path) -> TextIO:
    """Open a regular file to append lines of text, and create it if it is missing; links are refused.

    Raises:
        OSError: it cannot be written, or is a link or anything else that is not a regular file.
    """
    descriptor = _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, None)
    return os.fdopen(descriptor, "a", buffering=1, encoding="utf-8")


def check_regular(path: Path | str, max_bytes: int | None = None) -> None:
    """Check a file that a library is about to open by name; raises as ``open_regular``."""
    _check(os.stat(path), path, max_bytes)


def read_bytes(path: Path | str, max_bytes: int) -> bytes:
    """Read a whole regular file; raises as ``open_regular``."""
    with open_regular(path, max_bytes) as file:
        content = bytearray()
        while part := file.read(MIB if content else MIB // 16):  # until it ends: files in /proc have size 0
            content += part
            if len(content) > max_bytes:
                raise _too_large(len(content), path, max_bytes)
    return bytes(content)


def read_text(path: Path | str, max_bytes: int, encoding: str = "utf-8") -> str:
    """Read a whole regular file as text; raises as ``open_regular``, or a UnicodeDecodeError."""
    return read_bytes(path, max_bytes).decode(encoding)


def read_json(path: Path | str, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file; raises as ``open_regular``, or a ValueError if it is not JSON in UTF-8."""
    return parse_json(read_text(path, max_bytes))


def digest_file(path: Path | str) -> str:
    """Return the sha256 of a regular file's content, in hexadecimal; raises as ``open_regular``."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str) -> Any:
    """Parse JSON; a ValueError says that it is not JSON, or is nested too deeply for Python's parser."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _open(path: Path | str, flags: int, max_bytes: int | None) -> int:
    # Non-blocking, because opening a FIFO would wait for its other end. That changes nothing for regular files.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        _check(os.fstat(descriptor), path, max_bytes)
        return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _check(facts: os.stat_result, path: Path | str, max_bytes: int | None) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, where a file is expected", str(path))
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        raise OSError(errno.EINVAL, f"not a regular file but {kind}", str(path))
    if max_bytes is not None and facts.st_size > max_bytes:
        raise _too_large(facts.st_size, path, max_bytes)


def _too_large(found: int, path: Path | str, max_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"{found} bytes, but at most {max_bytes} are read", str(path))
