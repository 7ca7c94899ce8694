"""Images decoded once into one uint8 array at the tower's size: in memory, or in a file that is mapped from disk.

A file, made by several processes, lets 115,846 images of 224 x 224 (17 GB) train in bounded memory. Its name holds a
digest of what it was made from, so that an arm finds what another made, and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import socket
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from ltgc_local import offline
from ltgc_local.backends.clip.pixels import Resize, to_pixels
from ltgc_local.errors import BackendError
from ltgc_local.prefetch import num_cpus
from ltgc_local.training.decoded_file import BLOCK, find_problem, write_blocks

MIB = 2**20
ABANDONED_S = 3600  # without a write for so long, a file that was being made is one of a process that was killed


log = logging.getLogger(__name__)


class Source(Protocol):
    """Images by row: a split, or the generated images. It pickles, to go to the decoding processes."""

    @property
    def name(self) -> str: ...
    @property
    def keys(self) -> Sequence[str]: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def files(self) -> Sequence[Path]: ...
    def __len__(self) -> int: ...
    def image(self, row: int) -> Image.Image: ...


@dataclass(frozen=True)
class ImageCache:
    """How images become an array: the step that resizes, its name, and where and how large ones are kept."""

    resize: Resize
    preprocessing: str
    folder: Path  # of the files
    in_memory_mib: int
    workers: int = 0

    def load(self, source: Source) -> torch.Tensor:
        """Return all images of a source, (N, 3, H, W) uint8.

        Raises:
            BackendError: the file does not fit on the disk.
            DataError: an image does not decode.
        """
        if not len(source):
            return torch.empty(0, 3, 1, 1, dtype=torch.uint8)
        shape = (len(source), *decode_rows(source, self.resize, range(1)).shape[1:])
        if np.prod(shape, dtype=float) <= self.in_memory_mib * MIB:
            return torch.from_numpy(decode_rows(source, self.resize, range(len(source))))
        path = self.folder / f"{source.name}-{self._digest(source)}.npy"
        if path.is_file() and (problem := find_problem(path, shape)):
            log.warning("%s: damaged: %s; the images are decoded again", path, problem)
            path.unlink()
        if not path.is_file():
            self._write(source, shape, path)
        with warnings.catch_warnings():
            # Mapped for reading and never written: a private mapping to write to would count as memory.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(np.load(path, mmap_mode="r"))

    def _digest(self, source: Source) -> str:
        digest = hashlib.sha256(self.preprocessing.encode())
        for file in source.files:
            facts = file.stat()
            digest.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
        digest.update("\0".join(source.keys).encode() + np.asarray(source.labels, dtype=np.int64).tobytes())
        return digest.hexdigest()[:16]

    def _write(self, source: Source, shape: tuple[int, ...], path: Path) -> None:
        """Decode into a file beside ``path`` and rename it when it is whole."""
        temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
        with _writing(path, shape):
            path.parent.mkdir(parents=True, exist_ok=True)
            for abandoned in path.parent.glob(f".{source.name}-*.tmp"):
                if time.time() - abandoned.stat().st_mtime > ABANDONED_S:
                    abandoned.unlink(missing_ok=True)
            file = temporary.open("wb")
        try:
            with file, _writing(path, shape):
                write_blocks(file, shape, self._arrays(source))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _arrays(self, source: Source) -> Iterator[np.ndarray]:
        """Yield the decoded images, block by block, in order."""
        workers = self.workers or num_cpus()
        blocks = [range(first, min(first + BLOCK, len(source))) for first in range(0, len(source), BLOCK)]
        if workers == 1:
            yield from (decode_rows(source, self.resize, block) for block in blocks)
            return
        # Processes, for decoding holds Python's lock; started afresh, for a forked CUDA or thread pool is broken.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, _start_worker, (source, self.resize)) as pool:
            yield from _in_order(pool, blocks, ahead=2 * workers)


@contextmanager
def _writing(path: Path, shape: tuple[int, ...]) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        size = np.prod(shape, dtype=float) / MIB
        raise BackendError(f"{path}: {size:.0f} MiB of decoded images cannot be written: {problem}") from None


def decode_rows(source: Source, resize: Resize, rows: Iterable[int]) -> np.ndarray:
    """Decode and resize images into (N, 3, H, W) uint8."""
    return to_pixels(map(source.image, rows), resize)


def _in_order(pool: ProcessPoolExecutor, blocks: Iterable[range], ahead: int) -> Iterator[np.ndarray]:
    """Yield the blocks' arrays in order, with at most ``ahead`` of them in memory."""
    pending: deque[Future[np.ndarray]] = deque()
    for block in blocks:
        pending.append(pool.submit(_decode_block, block))
        if len(pending) >= ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


_of_worker: tuple[Source, Resize]  # of a decoding process: sent once, not with each block


def _start_worker(source: Source, resize: Resize) -> None:
    global _of_worker
    offline.forbid_network()
    torch.set_num_threads(1)
    _of_worker = source, resize


def _decode_block(rows: range) -> np.ndarray:
    return decode_rows(*_of_worker, rows)
