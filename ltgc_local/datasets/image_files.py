"""A split whose images are files in a tree: ImageNet's, Places', iNaturalist's and most people's own."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltgc_local.datasets.base import first_few
from ltgc_local.datasets.decode import decode_image, decode_several, rules_of
from ltgc_local.datasets.looking import check_paths, is_folder, is_there
from ltgc_local.errors import BackendError, DataError
from ltgc_local.image_decoding import MAX_ENCODED_BYTES, Decoded, ImageRules
from ltgc_local.recipe.schema import Data
from ltgc_local.regular_files import read_bytes

#: (path in the list, label) -> path in the tree.
Layout = Callable[[str, int], str]
LISTERS = 16  # folders that are listed at once: a network file system answers each slowly and many in parallel
SAMPLED = 32  # files whose bytes are in the digest: another tree with the same names is then another data set
PROBES = 5  # paths that decide which layout a tree has


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """One split in loose files. ``keys`` are the list's paths, whatever layout the tree has."""

    name: str
    root: Path
    keys: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)  # (N,)
    paths: tuple[str, ...] = field(repr=False)  # under root
    rules: ImageRules

    def __len__(self) -> int:
        return len(self.keys)

    def decoded(self, row: int) -> Decoded:
        """Return one image in mode L or RGB, upright, with what was in its file and is not in it.

        Raises:
            DataError: it is not there, is no regular file, or does not decode.
            IndexError: there is no such row.
        """
        if not 0 <= row < len(self.keys):
            raise IndexError(f"{self.root}: no row {row} in {self.name}; there are {len(self.keys)}")
        path = self.root / self.paths[row]
        try:
            content = read_bytes(path, MAX_ENCODED_BYTES)
        except MemoryError as error:
            raise BackendError(f"out of memory while reading {path}; lower models.decode_threads") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        return decode_image(content, self.rules, f"{path}: the image")

    def image(self, row: int) -> Image.Image:
        """Return one image in mode L or RGB, upright; raises as ``decoded``."""
        return self.decoded(row).image

    def images(self, rows: Iterable[int]) -> list[Image.Image]:
        """Return several images, in the order of ``rows``."""
        return decode_several(rows, self.image)

    @cached_property
    def files(self) -> Sequence[Path]:
        """Some of the images, the same ones each time."""
        rows = np.unique(np.linspace(0, len(self.paths) - 1, min(SAMPLED, len(self.paths))).astype(int))
        return [path for path in (self.root / self.paths[row] for row in rows) if is_there(path)]

    def missing(self) -> tuple[list[str], list[str]]:
        """List the folders that the split uses, and no other."""
        wanted: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            folder, _, name = path.rpartition("/")
            wanted[folder].append(name)
        absent, irregular = [], []
        with ThreadPoolExecutor(LISTERS) as pool:
            listed = pool.map(lambda folder: _names_in(self.root / folder), wanted)
            for (folder, names), there in zip(wanted.items(), listed, strict=True):
                absent += [str(self.root / folder / name) for name in names if name not in there]
                irregular += [str(self.root / folder / name) for name in names if there.get(name) is False]
        return absent, irregular


def build_image_files(
    name: str, data: Data, keys: Sequence[str], labels: NDArray[np.int64], layouts: Sequence[Layout] = ()
) -> ImageFiles:
    """Make a split of the tree under ``data.root``.

    Args:
        layouts: other layouts of the tree than the list's own, tried in this order where the list's folders are not
            there. A tree with none of them keeps the list's own, so that it can be planned without images.

    Raises:
        DataError: a path is absolute, climbs out of the root, or is none that a file can have.
    """
    root = data.root
    check_paths(f"{root}: {name}", keys)
    outside = [key for key in keys if key.startswith(("/", "\\")) or ".." in key.replace("\\", "/").split("/")]
    if outside:
        raise DataError(f"{root}: {len(outside)} paths of {name} lead out of the root: {first_few(outside)}")
    keys = [key.removeprefix("./") for key in keys]
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    labels.setflags(write=False)
    paths: Sequence[str] = keys
    if keys:
        probes = np.linspace(0, len(keys) - 1, min(PROBES, len(keys))).astype(int).tolist()
        for layout in (_as_listed, *layouts):
            if any(is_folder((root / layout(keys[row], int(labels[row]))).parent) for row in probes):
                if layout is not _as_listed:
                    paths = [layout(key, label) for key, label in zip(keys, labels.tolist(), strict=True)]
                break
    return ImageFiles(name, root, tuple(keys), labels, tuple(paths), rules_of(data))


def check_no_overlap(where: str, train: ImageFiles, *others: ImageFiles) -> None:
    """Refuse images that are in train and in another split too.

    Raises:
        DataError: the first few paths, and how many.
    """
    trained = set(train.keys)
    for split in others:
        both = [key for key in split.keys if key in trained]
        if both:
            raise DataError(f"{where}: {len(both)} images are in train and in {split.name}: {first_few(both)}")


def _as_listed(key: str, label: int) -> str:
    return key


def _names_in(folder: Path) -> dict[str, bool]:
    """Return the names in a folder, and whether each is a regular file: only of links is the state asked for."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_file() for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error
