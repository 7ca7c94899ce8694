"""CIFAR-10-LT and CIFAR-100-LT, cut from the official binary files at any imbalance factor.

The usual exponential profile (Cui et al. 2019; Cao et al. 2019): class i of C keeps n_i = floor(n_max * f^(-i/(C-1)))
of its training images, where f is the imbalance factor and class ids are in official order. Which images it keeps
depends on a seed of the data, not the run's, so that runs of several seeds share their data. Validation images are
sampled from what the long tail leaves: of the largest class nothing at the usual n_max, and some with a smaller
``largest_class``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltgc_local.datasets.base import Corpus, Split
from ltgc_local.datasets.lists import choose_class_names
from ltgc_local.datasets.paths import is_folder, is_there
from ltgc_local.errors import DataError
from ltgc_local.image_decoding import Decoded
from ltgc_local.recipe.inputs import Data
from ltgc_local.regular_files import check_regular
from ltgc_local.seeding import item_seed

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Format:
    """One of the two releases: where its files are, and how a record is laid out."""

    num_classes: int
    folder: str
    train: tuple[str, ...]
    test: str
    label_bytes: int  # the last one is the label; CIFAR-100's first is the coarse one


FORMATS = {
    "cifar10_lt": Format(
        10, "cifar-10-batches-bin", tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", 1
    ),
    "cifar100_lt": Format(100, "cifar-100-binary", ("train.bin",), "test.bin", 2),
}
NUM_TRAIN, NUM_TEST = 50_000, 10_000


@dataclass(frozen=True, eq=False)
class RecordSplit(Split):
    """Some records of binary files; images are read through a memory map when asked for."""

    name: str
    files: Sequence[Path]
    label_bytes: int
    per_file: int
    records: NDArray[np.int64] = field(repr=False)  # (N,) over the files one after the other
    labels: NDArray[np.int64] = field(repr=False)  # (N,)
    keys: tuple[str, ...] = field(repr=False)

    def read(self, row: int) -> Decoded:
        """Return one image, 32x32 RGB."""
        file, record = divmod(int(self.records[row]), self.per_file)
        pixels = _map(self.files[file], self.label_bytes)[record, self.label_bytes :]
        return Decoded(Image.fromarray(np.ascontiguousarray(pixels.reshape(3, 32, 32).transpose(1, 2, 0))))


def open_cifar_lt(data: Data) -> Corpus:
    """Open CIFAR-10 or CIFAR-100 (fine labels) as a long tail."""
    name, form = data.benchmark, FORMATS[data.benchmark]
    folder = data.root / form.folder if is_folder(data.root / form.folder) else data.root
    train_files, per_file = tuple(folder / file for file in form.train), NUM_TRAIN // len(form.train)
    labels = np.concatenate([_labels(path, name, per_file) for path in train_files])
    test_labels = _labels(folder / form.test, name, NUM_TEST)
    official = int(np.bincount(labels, minlength=form.num_classes).min())
    largest = data.largest_class or official
    if largest > official:
        raise DataError(f"{name}: data.largest_class is {largest}, but a class has {official} training images")
    chosen, held_out = [], []
    for class_id, count in enumerate(profile(form.num_classes, largest, data.imbalance)):
        of_class = np.flatnonzero(labels == class_id)
        order = np.random.default_rng(item_seed(data.split_seed, name, class_id)).permutation(of_class)
        chosen.append(np.sort(order[:count]))
        held_out.append(np.sort(order[count : count + data.val_per_class]))
    if not any(map(len, held_out)):
        raise DataError(
            f"{name}: imbalance {data.imbalance:g} leaves no image for validation; "
            f"write 'largest_class: {official - data.val_per_class}' under 'data:'"
        )

    def split(part: str, rows: Any) -> RecordSplit:
        is_test = part == "test"
        keys = tuple(f"{'test' if is_test else 'train'}/{row:05d}" for row in rows)
        files, own = ((folder / form.test,), test_labels) if is_test else (train_files, labels)
        return RecordSplit(part, files, form.label_bytes, NUM_TEST if is_test else per_file, rows, own[rows], keys)

    return Corpus(
        name,
        choose_class_names(data.class_names, f"cifar{form.num_classes}.txt", form.num_classes),
        split("train", np.concatenate(chosen)),
        split("val", np.concatenate(held_out)),
        split("test", np.arange(len(test_labels))),
    )


def profile(num_classes: int, largest: int, imbalance: float) -> list[int]:
    """Return n_i = floor(largest * imbalance^(-i/(C-1))), i = 0..C-1, at least 1."""
    # The field's code multiplies by (1/f)**(i/(C-1)) and truncates; the same operations give the same counts.
    return [max(1, int(largest * (1 / imbalance) ** (i / (num_classes - 1.0)))) for i in range(num_classes)]


def _labels(path: Path, name: str, num_images: int) -> NDArray[np.int64]:
    form = FORMATS[name]
    expected = num_images * (form.label_bytes + PIXELS)
    if not is_there(path):
        raise DataError(f"{path}: not there; {name} is read from the official binary version, {form.folder}")
    size = path.stat().st_size
    if size != expected:
        raise DataError(f"{path}: {size} bytes, but the official file has {expected}; copy it again")
    labels = _map(path, form.label_bytes)[:, form.label_bytes - 1].astype(np.int64)
    if int(labels.max()) >= form.num_classes:
        row = int(np.argmax(labels >= form.num_classes))
        raise DataError(f"{path}: image {row} has label {labels[row]}, above {form.num_classes - 1}; copy it again")
    return labels


@lru_cache(maxsize=16)
def _map(path: Path, label_bytes: int) -> NDArray[np.uint8]:
    """Return the file's records (N, label_bytes + 3072), unread until they are used."""
    try:
        check_regular(path)
        return np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, label_bytes + PIXELS)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
