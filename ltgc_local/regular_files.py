"""Read what others made: regular files alone, and no more bytes than asked for.

A FIFO hangs whoever opens it, and a device such as /dev/zero never ends. Every file that a user or a received folder
names is opened here, or checked here before a library opens it. What is wrong is an ``OSError`` whose ``strerror`` says
it in words, so that callers treat it as any file that cannot be read.
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

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: Path | str, max_bytes: int | None = None) -> BufferedReader:
    """Open a regular file for reading; a link to one counts as one.

    Raises:
        OSError: it cannot be read, is not a regular file, or has more than ``max_bytes``.
    """
    # Not blocking: else opening a FIFO waits for a writer. It changes nothing for regular files.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(os.fstat(descriptor), path, max_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_to_append(path: Path) -> TextIO:
    """Open a regular file to append whole lines of text, and make it where it is missing; a link is not followed.

    Raises:
        OSError: it cannot be written, or is a link or anything else that is not a regular file.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        _check(os.fstat(descriptor), path, None)
        return os.fdopen(descriptor, "a", buffering=1, encoding="utf-8")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: Path | str, max_bytes: int | None = None) -> None:
    """Refuse what ``open_regular`` would refuse, for a file that a library is about to open by its name.

    Raises:
        OSError: as ``open_regular``; also where there is no such file.
    """
    _check(os.stat(path), path, max_bytes)


def read_bytes(path: Path | str, max_bytes: int) -> bytes:
    """Read a whole regular file.

    Raises:
        OSError: as ``open_regular``.
    """
    with open_regular(path, max_bytes) as file:
        content = bytearray()
        while part := file.read(MIB if content else MIB // 16):  # as much as it has, not as it says: /proc says 0
            content += part
            if len(content) > max_bytes:
                raise _too_large(len(content), path, max_bytes)
    return bytes(content)


def read_text(path: Path | str, max_bytes: int, encoding: str = "utf-8") -> str:
    """Read a whole regular file as text.

    Raises:
        OSError: as ``open_regular``.
        UnicodeDecodeError: it is not text in this encoding.
    """
    return read_bytes(path, max_bytes).decode(encoding)


def read_json(path: Path | str, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file.

    Raises:
        OSError: as ``open_regular``.
        ValueError: it is not JSON in UTF-8.
    """
    return parse_json(read_text(path, max_bytes))


def digest_file(path: Path | str) -> str:
    """Return the sha256 of a regular file's content, in hexadecimal.

    Raises:
        OSError: as ``open_regular``.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is not JSON; that includes JSON nested so deeply that Python's parser gives up.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _check(facts: os.stat_result, path: Path | str, max_bytes: int | None) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, where a file is expected", str(path))
    if not stat.S_ISREG(facts.st_mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(facts.st_mode)), "something else")
        raise OSError(errno.EINVAL, f"not a regular file but {kind}", str(path))
    if max_bytes is not None and facts.st_size > max_bytes:
        raise _too_large(facts.st_size, path, max_bytes)


def _too_large(found: int, path: Path | str, max_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"{found} bytes, where at most {max_bytes} are read", str(path))
