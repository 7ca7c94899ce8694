"""Images decoded once into uint8 arrays of the network's size: in memory, or in a file that is mapped from disk.

A file, made by several processes, lets 115,846 images of 224 x 224 (17 GB) train in bounded memory. Its name holds a
digest of what it was made from, so an arm finds what another arm made and nothing else, and the sha256 of its content.
"""

from __future__ import annotations

import hashlib
import io
import logging
import multiprocessing
import os
import re
import socket
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from ltgc_local import offline
from ltgc_local.backends.clip.pixels import Resize, to_pixels
from ltgc_local.errors import BackendError
from ltgc_local.prefetch import num_cpus, prefetch
from ltgc_local.regular_files import MIB, open_regular
from ltgc_local.runs.schemas import FileFacts
from ltgc_local.runs.verify import find_damage, remember

BLOCK = 256  # images that a process decodes at a time
_DIGEST = re.compile("[0-9a-f]{64}")
WAIT_S = 0.5  # between looks for a file that another process makes
ABANDONED_S = 3600  # a temporary file that was not written to for this long belongs to a process that was killed

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Decoded images with their labels.

    Attributes:
        parts: (N_i, 3, H, W) uint8 each; their images are numbered through all of them in order.
        labels: (N,) int64.
        chosen: (N,) which image each row is; None where the rows are all images in order.
    """

    parts: tuple[torch.Tensor, ...]
    labels: np.ndarray
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: ImageSet) -> ImageSet:
        labels, chosen = np.concatenate([self.labels, other.labels]), None
        if self.chosen is not None or other.chosen is not None:
            chosen = np.concatenate([self._images, sum(map(len, self.parts)) + other._images])
        return ImageSet(self.parts + other.parts, labels, chosen)

    @property
    def _images(self) -> np.ndarray:
        return np.arange(len(self)) if self.chosen is None else self.chosen

    def choose(self, rows: np.ndarray) -> ImageSet:
        """Return some of the images, which stay where they are."""
        return ImageSet(self.parts, self.labels[rows], self._images[rows])

    def gather(self, rows: np.ndarray, pin: bool = False) -> torch.Tensor:
        """Copy images (B, 3, H, W) uint8 out of the parts, each of which may be a file larger than memory.

        Args:
            rows: (B,), at least one.
            pin: into page-locked memory, from which a GPU copies without making anything wait.
        """
        shape = next(part.shape[1:] for part in self.parts if len(part))
        images = torch.empty(len(rows), *shape, dtype=torch.uint8, pin_memory=pin)
        wanted, first = torch.from_numpy(rows if self.chosen is None else self.chosen[rows]), 0
        for part in self.parts:
            mine = (wanted >= first) & (wanted < first + len(part))
            if mine.all():
                return torch.index_select(part, 0, wanted - first, out=images)
            if mine.any():
                images[mine] = part[wanted[mine] - first]
            first += len(part)
        return images


class Source(Protocol):
    """Images by row: a split, or the generated images. It can be pickled, to go to the decoding processes."""

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
    """How images become an array: the step that resizes, its name, and where and how large ones are kept.

    Attributes:
        preprocessing: identifies what ``resize`` does.
        folder: of the files.
        in_memory_mib: larger arrays become files.
        workers: decoding processes; 0 is one per CPU.
        writes: whether this process makes missing files. Others wait for them to appear, and not in a collective, which
            would give up after some minutes: decoding may take hours.
    """

    resize: Resize
    preprocessing: str
    folder: Path
    in_memory_mib: int
    workers: int = 0
    writes: bool = True

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
        while (path := self._find(source, shape)) is None:
            if self.writes:
                path = self._write(source, shape)
                break
            time.sleep(WAIT_S)  # if the process that writes fails, the launcher ends this one
        with warnings.catch_warnings():
            # Mapped for reading and never written: a private mapping to write to would count as memory.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(np.load(path, mmap_mode="r"))

    def _find(self, source: Source, shape: tuple[int, ...]) -> Path | None:
        """Return the file that was made of a source, if it is whole; remove one that is damaged."""
        header = _header(shape)
        size = len(header) + int(np.prod(shape))
        for path in self.folder.glob(f"{self._stem(source)}-*.npy"):
            digest = path.stem.rpartition("-")[2]
            if not _DIGEST.fullmatch(digest):
                continue  # not written by this class
            facts = FileFacts(bytes=size, sha256=digest)
            problem = next((problem for _, problem in find_damage(self.folder, {path.name: facts})), "")
            if not problem and _begins_with(path, header):
                return path
            log.warning("%s: damaged: %s; the images are decoded again", path, problem or "another header")
            path.unlink(missing_ok=True)
        return None

    def _stem(self, source: Source) -> str:
        digest = hashlib.sha256(self.preprocessing.encode())
        for file in source.files:
            facts = file.stat()
            digest.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
        digest.update("\0".join(source.keys).encode() + np.asarray(source.labels, dtype=np.int64).tobytes())
        return f"{source.name}-{digest.hexdigest()[:16]}"

    def _write(self, source: Source, shape: tuple[int, ...]) -> Path:
        """Decode into a temporary file in numpy's .npy format, and rename it when it is whole."""
        stem, folder = self._stem(source), self.folder
        temporary = folder / f".{stem}.{socket.gethostname()}.{os.getpid()}.tmp"
        with _writing(folder, shape):
            folder.mkdir(parents=True, exist_ok=True)
            for abandoned in folder.glob(f".{source.name}-*.tmp"):
                if time.time() - abandoned.stat().st_mtime > ABANDONED_S:
                    abandoned.unlink(missing_ok=True)
            file = temporary.open("wb")
        digest = hashlib.sha256()
        try:
            with file, _writing(folder, shape):
                contents: Iterable[bytes | memoryview] = chain([_header(shape)], self._blocks(source))
                for content in contents:
                    file.write(content)
                    digest.update(content)
            path = temporary.replace(folder / f"{stem}-{digest.hexdigest()}.npy")
        finally:
            temporary.unlink(missing_ok=True)
        remember(folder, {path.name: FileFacts(bytes=path.stat().st_size, sha256=digest.hexdigest())})
        return path

    def _blocks(self, source: Source) -> Iterator[memoryview]:
        """Yield the content of the decoded images, block by block, in order."""
        workers = self.workers or num_cpus()
        blocks = [range(first, min(first + BLOCK, len(source))) for first in range(0, len(source), BLOCK)]
        if workers == 1:
            yield from (decode_rows(source, self.resize, block).reshape(-1).data for block in blocks)
            return
        # Processes, since decoding holds Python's lock; started afresh, since a forked CUDA or thread pool is broken.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, _start_worker, (source, self.resize)) as pool:

            def decode(block: range) -> np.ndarray:
                return pool.submit(_decode_block, block).result()

            with closing(prefetch(decode, blocks, workers=2 * workers, ahead=2 * workers)) as arrays:
                yield from (array.reshape(-1).data for array in arrays)


@contextmanager
def _writing(folder: Path, shape: tuple[int, ...]) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        size = np.prod(shape, dtype=float) / MIB
        raise BackendError(f"{folder}: {size:.0f} MiB of decoded images cannot be written: {problem}") from None


def _begins_with(path: Path, header: bytes) -> bool:
    with open_regular(path) as file:
        return file.read(len(header)) == header


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def decode_rows(source: Source, resize: Resize, rows: Iterable[int]) -> np.ndarray:
    """Decode and resize images into (N, 3, H, W) uint8."""
    return to_pixels(map(source.image, rows), resize)


_of_worker: tuple[Source, Resize]  # of a decoding process: sent once, not with each block


def _start_worker(source: Source, resize: Resize) -> None:
    global _of_worker
    offline.forbid_network()
    torch.set_num_threads(1)
    _of_worker = source, resize


def _decode_block(rows: range) -> np.ndarray:
    return decode_rows(*_of_worker, rows)
