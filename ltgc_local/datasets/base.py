"""What the rest of the program knows of a data set: class names, three splits, keys, labels, images one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltgc_local.errors import DataError
from ltgc_local.image_decoding import Decoded
from ltgc_local.regular_files import digest_file


class Split(Protocol):
    """One split. Keys and labels are there without decoding; an image is read and decoded when it is asked for."""

    @property
    def name(self) -> str:
        """train, val or test."""

    @property
    def keys(self) -> Sequence[str]:
        """Stable names of the images, such as "train/00042"."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class ids (N,), read-only."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that hold the images, for the digest; where images are files, a sample of those that are there."""

    def __len__(self) -> int: ...

    def decoded(self, row: int) -> Decoded:
        """Return one image with what was in its file and is not in it; raise DataError where it does not decode."""

    def image(self, row: int) -> Image.Image:
        """Return one image in mode L or RGB; raise DataError where it does not decode."""

    def images(self, rows: Iterable[int]) -> list[Image.Image]:
        """Return several images, in the order of ``rows``; a DataError names those that do not decode."""

    def missing(self) -> tuple[list[str], list[str]]:
        """Return the paths where there is no image, and those where there is no regular file but a FIFO or the like.

        It lists folders, and opens nothing.
        """


@dataclass(frozen=True)
class Checked:
    """How many images were decoded, and how many of them had alpha, or 16 bits."""

    images: int
    with_alpha: int
    of_16_bits: int


@dataclass(frozen=True, eq=False)
class Corpus:
    """A benchmark: class names and the splits train (D_o, the long tail), val and test.

    ``val_is_test`` says that the benchmark has no validation images of its own (iNaturalist 2018), or that some of them
    are test images: its settings are fixed beforehand, never chosen on ``val``.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    val_is_test: bool = False

    def __post_init__(self) -> None:
        """Refuse names that prompts could not tell apart, and labels without a name.

        Raises:
            DataError: naming the classes, or the image.
        """
        check_class_names(self.name, self.class_names)
        for split in (self.train, self.val, self.test):
            check_labels(f"{self.name} {split.name}", split.labels, split.keys, len(self.class_names))

    def class_counts(self) -> dict[int, int]:
        """Return class_id -> number of training images, a class without any included."""
        counts = np.bincount(self.train.labels, minlength=len(self.class_names))
        return {class_id: int(count) for class_id, count in enumerate(counts)}

    def digest(self) -> str:
        """Return 16 hexadecimal digits of a sha256 over class names, keys, labels and the files that hold images.

        Of images that are files of their own, paths count and the bytes of a sample: reading half a million would take
        longer than a step.
        """
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for split in (self.train, self.val, self.test):
            digest.update("\n".join(split.keys).encode() + split.labels.astype("<i8").tobytes())
            for path in split.files:
                try:
                    content = digest_file(path)
                except OSError as error:
                    raise DataError(f"{path}: cannot be read: {error.strerror}") from error
                digest.update(f"{split.name}/{path.name}\0{content}\n".encode())
        return digest.hexdigest()[:16]

    def check_selection(self, select: str, key: str = "train.select") -> None:
        """Refuse to choose an epoch on validation images that are test images.

        Raises:
            DataError: ``select`` is not ``last``, and they are.
        """
        if select != "last" and self.val_is_test:
            raise DataError(
                f"{key.replace('.', ': ')} is {select}, but {self.name}'s validation images are its test images, and a "
                f"choice by them would be by the test; type --set {key}=last"
            )

    def check_images_are_there(self) -> None:
        """Refuse a tree that lacks images which the splits name.

        Raises:
            DataError: the first few missing paths of each split, and how many there are.
        """
        problems = []
        for split in (self.train, self.val, self.test):
            missing = split.missing()
            for paths, words in zip(missing, ("not there", "there, but no regular files"), strict=True):
                if paths:
                    problems.append(f"{self.name} {split.name}: {first_few(paths)} {words}, of {len(split)} images")
        if problems:
            raise DataError("\n".join([*problems, "copy the missing images, or give the right data.root"]))

    def check_images_decode(self) -> Checked:
        """Decode every image once, several at a time; return how many there are, and of which kinds.

        Raises:
            DataError: the first few that are missing or damaged, and how many there are.
        """
        results: list[str | tuple[bool, bool]] = []
        splits = (self.train, self.val) if self.val_is_test else (self.train, self.val, self.test)
        with ThreadPoolExecutor() as pool:
            for split in splits:
                results += pool.map(partial(_decode_once, split), range(len(split)))
        problems = [result for result in results if isinstance(result, str)]
        if problems:
            raise DataError(
                f"{self.name}: {len(problems)} images are missing or damaged:\n" + first_few(problems, 10, "\n")
            )
        kinds = [result for result in results if not isinstance(result, str)]
        return Checked(len(kinds), sum(alpha for alpha, _ in kinds), sum(wide for _, wide in kinds))


def _decode_once(split: Split, row: int) -> str | tuple[bool, bool]:
    """Return what is wrong with an image, or whether it had alpha and whether 16 bits."""
    try:
        found = split.decoded(row)
    except DataError as error:
        return str(error)
    return found.had_alpha, found.had_16_bits


def first_few(names: Sequence[str], number: int = 3, separator: str = ", ") -> str:
    """Write the first few of many: ``a.jpg, b.jpg, c.jpg and 17 more``."""
    rest = len(names) - number
    return separator.join(names[:number]) + (f" and {rest} more" if rest > 0 else "")


def check_class_names(where: str, class_names: Sequence[str]) -> None:
    """Refuse class names that are empty, duplicate (case and outer blanks do not tell two apart) or not UTF-8.

    Raises:
        DataError: naming the classes.
    """
    first: dict[str, int] = {}
    for class_id, name in enumerate(class_names):
        normal = " ".join(name.casefold().split())
        if not normal:
            raise DataError(f"{where}: class {class_id} has no name; every class needs one, prompts are made of it")
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"{where}: class {class_id} has a name that is not UTF-8: {name!r}; rename it")
        if normal in first:
            raise DataError(
                f"{where}: classes {first[normal]} and {class_id} are both named '{name}'; "
                "prompts cannot tell them apart: give each its own name, such as 'crane (bird)'"
            )
        first[normal] = class_id


def check_labels(where: str, labels: NDArray[np.int64], keys: Sequence[str], num_classes: int) -> None:
    """Refuse labels outside [0, num_classes).

    Raises:
        DataError: naming the first such image.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}: label {int(labels[row])} of {keys[row]} has no class name: expected 0 to {num_classes - 1} "
            f"({len(wrong)} such labels)"
        )
