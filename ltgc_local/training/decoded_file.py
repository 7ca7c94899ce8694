"""The file of decoded images: numpy's .npy format, with the sha256 of every block of images after the array.

    header and array as numpy writes them | one digest (32 bytes) a block | the digest of header and digests

numpy maps the array and ignores what follows. Blocks are hashed as they are written, and compared in threads.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np

from ltgc_local.prefetch import num_cpus
from ltgc_local.regular_files import open_regular
from ltgc_local.runs.schemas import FileFacts
from ltgc_local.runs.verify import is_remembered, remember

BLOCK = 256  # images
DIGEST_BYTES = 32

Shape = tuple[int, ...]


def write_blocks(file: IO[bytes], shape: Shape, blocks: Iterable[np.ndarray]) -> None:
    """Write blocks (BLOCK, 3, H, W) of uint8 images, the last one perhaps smaller, which are ``shape`` together."""
    header = _header(shape)
    file.write(header)
    digests = b""
    for block in blocks:
        content = np.ascontiguousarray(block).reshape(-1).data
        file.write(content)
        digests += hashlib.sha256(content).digest()
    file.write(digests + hashlib.sha256(header + digests).digest())


def find_problem(path: Path, shape: Shape) -> str:
    """Return why a file is not what ``write_blocks`` wrote of images of this shape, or ""."""
    header = _header(shape)
    block_bytes = BLOCK * int(np.prod(shape[1:]))
    array_bytes = int(np.prod(shape))
    num_blocks = -(-shape[0] // BLOCK)
    size = len(header) + array_bytes + DIGEST_BYTES * (num_blocks + 1)
    if path.stat().st_size != size:
        return f"{path.stat().st_size} bytes, where {size} were written"
    with open_regular(path) as file:
        start = file.read(len(header))
        file.seek(len(header) + array_bytes)
        digests, seal = file.read(DIGEST_BYTES * num_blocks), file.read(DIGEST_BYTES)
        if start != header or hashlib.sha256(header + digests).digest() != seal:
            return "its sha256 is not the one that it was written with"
        facts = FileFacts(bytes=size, sha256=seal.hex())
        if is_remembered(path, facts):
            return ""
        descriptor = file.fileno()

        def is_whole(number: int) -> bool:
            first = number * block_bytes
            content = os.pread(descriptor, min(block_bytes, array_bytes - first), len(header) + first)
            return hashlib.sha256(content).digest() == digests[DIGEST_BYTES * number : DIGEST_BYTES * (number + 1)]

        with ThreadPoolExecutor(num_cpus(), thread_name_prefix="verify") as pool:
            if not all(pool.map(is_whole, range(num_blocks))):
                return "its sha256 is not the one that it was written with"
    remember(path.parent, {path.name: facts})
    return ""


def _header(shape: Shape) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
