"""What the rest of the program knows about a data set: class names, three splits, their keys, labels and images."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltgc_local.errors import DataError
from ltgc_local.image_decoding import Decoded, ImageRules, UndecodableError, decode
from ltgc_local.recipe.inputs import Data
from ltgc_local.regular_files import digest_file


class Split(ABC):
    """One split. Keys and labels are known without decoding; an image is read and decoded when it is asked for.

    It pickles without images, so worker processes can have it. ``files`` are those that hold the images, for the
    digest; where each image is a file, they are a sample of those that exist.
    """

    name: str  # train, val or test
    keys: tuple[str, ...]  # stable names of the images, such as "train/00042"
    labels: NDArray[np.int64]  # class ids (N,), read-only
    files: Sequence[Path]

    @abstractmethod
    def read(self, row: int) -> Decoded:
        """Read and decode the image at a valid row."""

    def __len__(self) -> int:
        return len(self.keys)

    def decoded(self, row: int) -> Decoded:
        """Return one image in mode L or RGB, upright, and what its file had that the image lacks.

        Raises:
            DataError: it is missing or does not decode; the message names it.
            IndexError: there is no such row.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"no row {row} in {self.name}; there are {len(self)}")
        return self.read(row)

    def image(self, row: int) -> Image.Image:
        """Return one image in mode L or RGB, upright; raises as ``decoded``."""
        return self.decoded(row).image

    def images(self, rows: Iterable[int]) -> list[Image.Image]:
        """Return several images, in the order of ``rows``; one DataError names the first few that do not decode."""
        images, problems = [], []
        for row in rows:
            try:
                images.append(self.image(int(row)))
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError(problems[0] if len(problems) == 1 else f"{len(problems)} images: {first_few(problems)}")
        return images

    def missing(self) -> tuple[list[str], list[str]]:
        """Return the paths where an image is missing, and those of something other than a regular file.

        Folders are listed, and nothing is opened.
        """
        return [], []


@dataclass(frozen=True)
class Checked:
    """How many images were decoded, and how many of them had alpha, or 16 bits."""

    images: int
    with_alpha: int
    of_16_bits: int


@dataclass(frozen=True, eq=False)
class Corpus:
    """A benchmark: class names and the splits train (D_o, the long tail), val and test.

    ``val_is_test`` says that some or all validation images are test images (iNaturalist 2018 has no others). Its
    settings must be fixed beforehand, never chosen on ``val``.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    val_is_test: bool = False

    def __post_init__(self) -> None:
        """Refuse names that prompts could not tell apart, and labels without a name."""
        check_class_names(self.name, self.class_names)
        for split in self._splits:
            split.labels.setflags(write=False)
            _check_labels(f"{self.name} {split.name}", split, len(self.class_names))

    @property
    def _splits(self) -> tuple[Split, Split, Split]:
        return self.train, self.val, self.test

    def class_counts(self) -> dict[int, int]:
        """Return class_id -> number of training images; classes without any are included."""
        return dict(enumerate(np.bincount(self.train.labels, minlength=len(self.class_names)).tolist()))

    def digest(self) -> str:
        """Return 16 hexadecimal digits of a sha256 over class names, keys, labels and the files that hold images.

        Where each image is a file, all paths count but only a sample's bytes: reading half a million files would take
        longer than a step.
        """
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for split in self._splits:
            digest.update("\n".join(split.keys).encode() + split.labels.astype("<i8").tobytes())
            for path in split.files:
                try:
                    content = digest_file(path)
                except OSError as error:
                    raise DataError(f"{path}: cannot be read: {error.strerror}") from error
                digest.update(f"{split.name}/{path.name}\0{content}\n".encode())
        return digest.hexdigest()[:16]

    def check_selection(self, value: str | bool, key: str = "train.select", neutral: str | bool = "last") -> None:
        """Refuse to choose anything on validation images that are test images.

        Args:
            value: of the key that may ask for a choice.
            neutral: the value that asks for none.
        """
        if value != neutral and self.val_is_test:
            images = f"{self.name}'s validation images are its test images"
            raise DataError(
                f"{key.replace('.', ': ')} is {str(value).lower()}, but {images}, so it "
                f"would choose by test results; type --set {key}={str(neutral).lower()}"
            )

    def check_images_are_there(self) -> None:
        """Refuse a tree that lacks images, with the first few missing paths of each split."""
        problems = []
        for split in self._splits:
            for paths, words in zip(split.missing(), ("not there", "not regular files"), strict=True):
                if paths:
                    problems.append(f"{self.name} {split.name}: {first_few(paths)} {words}, of {len(split)} images")
        if problems:
            raise DataError("\n".join([*problems, "copy the missing images, or give the right data.root"]))

    def check_images_decode(self) -> Checked:
        """Decode every image once, several at a time, and count their kinds.

        Raises:
            DataError: the first few that are missing or damaged, and how many there are.
        """
        results: list[str | tuple[bool, bool]] = []
        with ThreadPoolExecutor() as pool:
            for split in self._splits[:2] if self.val_is_test else self._splits:
                results += pool.map(partial(_decode_once, split), range(len(split)))
        problems = [result for result in results if isinstance(result, str)]
        if problems:
            raise DataError(
                f"{self.name}: {len(problems)} images are missing or damaged:\n" + first_few(problems, 10, "\n")
            )
        kinds = [result for result in results if not isinstance(result, str)]
        return Checked(len(kinds), sum(alpha for alpha, _ in kinds), sum(wide for _, wide in kinds))


def _decode_once(split: Split, row: int) -> str | tuple[bool, bool]:
    """Return what is wrong with an image, or whether it had alpha and whether it had 16 bits."""
    try:
        found = split.decoded(row)
    except DataError as error:
        return str(error)
    return found.had_alpha, found.had_16_bits


def rules_of(data: Data) -> ImageRules:
    """Return how a recipe's images are decoded."""
    return ImageRules(data.max_pixels, data.alpha_background)


def decode_image(content: bytes, rules: ImageRules, where: str) -> Decoded:
    """Decode one image; a DataError names it by ``where``."""
    try:
        return decode(content, rules, where)
    except UndecodableError as error:
        raise DataError(f"{where} does not decode: {error}") from error


def first_few(names: Sequence[str], number: int = 3, separator: str = ", ") -> str:
    """Write the first few of many: ``a.jpg, b.jpg, c.jpg and 17 more``."""
    rest = len(names) - number
    return separator.join(names[:number]) + (f" and {rest} more" if rest > 0 else "")


def check_class_names(where: str, class_names: Sequence[str]) -> None:
    """Refuse class names that are empty, not UTF-8, or the same but for case and blanks."""
    first: dict[str, int] = {}
    for class_id, name in enumerate(class_names):
        normal = " ".join(name.casefold().split())
        if not normal:
            raise DataError(f"{where}: class {class_id} has no name; every class needs one for its prompts")
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"{where}: class {class_id} has a name that is not UTF-8: {name!r}; rename it")
        if normal in first:
            raise DataError(
                f"{where}: classes {first[normal]} and {class_id} are both named '{name}'; "
                "prompts cannot tell them apart; give each its own name, such as 'crane (bird)'"
            )
        first[normal] = class_id


def _check_labels(where: str, split: Split, num_classes: int) -> None:
    """Refuse labels outside [0, num_classes)."""
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= num_classes))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}: label {split.labels[row]} of {split.keys[row]} has no class name: expected 0 to "
            f"{num_classes - 1} ({len(wrong)} such labels)"
        )
