"""Your own images: train/, val/ and test/, each with a folder a class.

A class is called as its folder is, underscores read as blanks; class ids follow the folders' sorted names.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ltgc_local.datasets.base import Corpus, first_few
from ltgc_local.datasets.class_names import read_class_names
from ltgc_local.datasets.image_files import ImageFiles, build_image_files
from ltgc_local.datasets.lists import SPLIT_NAMES, SPLITS
from ltgc_local.datasets.looking import check_paths, is_folder
from ltgc_local.errors import DataError
from ltgc_local.recipe.schema import Data

NAME = "image_folder"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def open_image_folder(data: Data) -> Corpus:
    """Open the tree by listing its folders.

    Raises:
        DataError: a split's folder is missing, a class is in val or test only, or there are no images.
    """
    folders = {split: _split_folder(data.root, split) for split in SPLITS}
    classes = _folders_in(folders["train"])
    if not classes:
        raise DataError(f"{folders['train']}: no folders of classes; put each class's images in a folder of its name")
    for folder in folders.values():
        unknown = [name for name in _folders_in(folder) if name not in classes]
        if unknown:
            raise DataError(f"{folder}: classes that {folders['train']} does not have: {', '.join(unknown[:5])}")
    names = tuple(name.replace("_", " ") for name in classes)
    if data.class_names is not None:
        names = read_class_names(data.class_names)
        if len(names) != len(classes):
            raise DataError(f"{data.class_names}: {len(names)} class names, but {len(classes)} folders of classes")
    if folders["train"].resolve() in (folders["val"].resolve(), folders["test"].resolve()):
        raise DataError(f"{folders['train']}: is also the folder of another split; each needs images of its own")
    splits = {split: _read_split(split, data, folder, classes) for split, folder in folders.items()}
    empty = [classes[c] for c in sorted(set(range(len(classes))) - set(splits["train"].labels.tolist()))]
    if empty:
        raise DataError(
            f"{folders['train']}: {len(empty)} folders of classes without an image: {first_few(empty)}; put images "
            "there, or remove the folders of these classes"
        )
    val_is_test = folders["val"].resolve() == folders["test"].resolve()
    return Corpus(NAME, names, splits["train"], splits["val"], splits["test"], val_is_test)


def _split_folder(root: Path, split: str) -> Path:
    found = next((root / name for name in SPLIT_NAMES[split] if is_folder(root / name)), None)
    if found is None:
        raise DataError(f"{root / split}: no such folder; {NAME} is train/, val/ and test/ with a folder a class")
    return found


def _folders_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error
    check_paths(folder, names)  # class names are made of them
    return names


def _refuse(error: OSError) -> None:
    """Raise what ``os.walk`` would pass over: a class whose folder may not be listed would have fewer images."""
    if not isinstance(error, FileNotFoundError):  # a class that this split does not have
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error


def _read_split(split: str, data: Data, folder: Path, classes: list[str]) -> ImageFiles:
    keys: list[str] = []
    labels: list[int] = []
    for class_id, name in enumerate(classes):
        found = [
            os.path.join(parent, file)
            for parent, _, files in os.walk(folder / name, onerror=_refuse)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        ]
        keys += sorted(Path(path).relative_to(data.root).as_posix() for path in found)
        labels += [class_id] * len(found)
    if not keys:
        raise DataError(f"{folder}: no images ({', '.join(SUFFIXES)}) in its folders of classes")
    return build_image_files(split, data, keys, np.array(labels, dtype=np.int64))
