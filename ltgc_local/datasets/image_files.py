"""Splits whose images are files in a tree: ImageNet's, Places', iNaturalist's and most people's own."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltgc_local.datasets.base import Corpus, Split, decode_image, first_few, rules_of
from ltgc_local.datasets.lists import SPLITS, Listed
from ltgc_local.datasets.paths import check_paths, is_folder, is_there
from ltgc_local.errors import BackendError, DataError
from ltgc_local.image_decoding import MAX_ENCODED_BYTES, Decoded, ImageRules
from ltgc_local.recipe.inputs import Data
from ltgc_local.regular_files import read_bytes

#: (path in the list, label) -> path in the tree.
Layout = Callable[[str, int], str]
LISTERS = 16  # folders listed at once: a network file system answers each slowly, but many in parallel
SAMPLED = 32  # files whose bytes are in the digest: another tree with the same names is then another data set
PROBES = 5  # paths that decide which layout a tree has


@dataclass(frozen=True, eq=False)
class ImageFiles(Split):
    """One split in loose files. ``keys`` are the list's paths, whatever layout the tree has."""

    name: str
    root: Path
    keys: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)  # (N,)
    paths: Sequence[str] = field(repr=False)  # under root
    rules: ImageRules

    def read(self, row: int) -> Decoded:
        path = self.root / self.paths[row]
        try:
            content = read_bytes(path, MAX_ENCODED_BYTES)
        except MemoryError as error:
            raise BackendError(f"out of memory while reading {path}; lower models.decode_threads") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        return decode_image(content, self.rules, f"{path}: the image")

    @cached_property
    def files(self) -> Sequence[Path]:  # type: ignore[override]
        """Some of the images, the same ones each time."""
        rows = np.unique(np.linspace(0, len(self.paths) - 1, min(SAMPLED, len(self.paths))).astype(int))
        return [path for path in (self.root / self.paths[row] for row in rows) if is_there(path)]

    def missing(self) -> tuple[list[str], list[str]]:
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


def build_corpus(
    name: str,
    class_names: Sequence[str],
    lists: Mapping[str, Listed],
    where: Path,
    data: Data,
    layouts: Mapping[str, Sequence[Layout]] | None = None,
    *,
    val_is_test: bool = False,
) -> Corpus:
    """Make a corpus of the image files under ``data.root``; val may list test images.

    Args:
        lists: paths and labels of train, val and test.
        where: the folder that the lists come from.
        layouts: per split, other layouts of the tree than its list's, tried in this order where the list's folders
            are missing. A tree with none of them keeps the list's own, so that it can be planned without images.

    Raises:
        DataError: a path is absolute, climbs out of the root, cannot be a file's, or is in train and another split.
    """
    splits = {split: _build_split(split, data, *lists[split], (layouts or {}).get(split, ())) for split in SPLITS}
    trained = set(splits["train"].keys)
    for split in ("val", "test"):
        if both := [key for key in splits[split].keys if key in trained]:
            raise DataError(f"{where}: {len(both)} images are in train and in {split}: {first_few(both)}")
    val_is_test |= not set(splits["val"].keys).isdisjoint(splits["test"].keys)
    return Corpus(name, tuple(class_names), **splits, val_is_test=val_is_test)


def _build_split(
    name: str, data: Data, keys: Sequence[str], labels: NDArray[np.int64], layouts: Sequence[Layout]
) -> ImageFiles:
    root = data.root
    check_paths(f"{root}: {name}", keys)
    outside = [key for key in keys if key.startswith(("/", "\\")) or ".." in key.replace("\\", "/").split("/")]
    if outside:
        raise DataError(f"{root}: {len(outside)} paths of {name} lead out of the root: {first_few(outside)}")
    keys = tuple(key.removeprefix("./") for key in keys)
    paths: Sequence[str] = keys
    probes = np.linspace(0, len(keys) - 1, min(PROBES, len(keys))).astype(int).tolist()
    if not any(is_folder((root / keys[row]).parent) for row in probes):
        for layout in layouts:
            if any(is_folder((root / layout(keys[row], int(labels[row]))).parent) for row in probes):
                paths = [layout(key, label) for key, label in zip(keys, labels.tolist(), strict=True)]
                break
    return ImageFiles(name, root, keys, labels, paths, rules_of(data))


def _names_in(folder: Path) -> dict[str, bool]:
    """Return the names in a folder, and whether each is a regular file; only links are looked at one by one."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_file() for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error
