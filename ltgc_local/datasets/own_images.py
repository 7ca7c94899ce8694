"""Your own images: a folder per class, lists, or tables.

image_folder   train/, val/ and test/, each with a folder per class. A class is named after its folder, with underscores
               as blanks; class ids follow the folders' sorted names.
list_files     train.txt, val.txt and test.txt of "relative/path label" lines, and class_names.txt.
csv            train.csv, val.csv and test.csv with a header, a column of paths and one of labels. Labels are class
               names, or class ids where the recipe names a file of class names.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from ltgc_local.datasets.base import Corpus, first_few
from ltgc_local.datasets.image_files import build_corpus
from ltgc_local.datasets.lists import (
    SPLIT_NAMES,
    SPLITS,
    Listed,
    check_keys,
    read_class_names,
    read_lines,
    read_list,
)
from ltgc_local.datasets.paths import check_paths, is_folder
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def open_list_files(data: Data) -> Corpus:
    """Open a tree by its lists."""
    folder = data.lists or data.root
    lists = {split: read_list(folder / f"{split}.txt") for split in SPLITS}
    names = read_class_names(data.class_names or folder / "class_names.txt")
    return build_corpus("list_files", names, lists, folder, data)


def open_image_folder(data: Data) -> Corpus:
    """Open a tree by listing its folders."""
    folders = {split: _split_folder(data.root, split) for split in SPLITS}
    train = folders["train"]
    classes = _folders_in(train)
    if not classes:
        raise DataError(f"{train}: no folders of classes; put each class's images in a folder of its name")
    for folder in folders.values():
        if unknown := [name for name in _folders_in(folder) if name not in classes]:
            raise DataError(f"{folder}: classes that {train} does not have: {', '.join(unknown[:5])}")
    names = tuple(name.replace("_", " ") for name in classes)
    if data.class_names is not None:
        names = read_class_names(data.class_names)
        if len(names) != len(classes):
            raise DataError(f"{data.class_names}: {len(names)} class names, but {len(classes)} folders of classes")
    if train.resolve() in (folders["val"].resolve(), folders["test"].resolve()):
        raise DataError(f"{train}: is also the folder of another split; each needs images of its own")
    lists = {split: _list_images(data.root, folder, classes) for split, folder in folders.items()}
    if empty := [classes[c] for c in sorted(set(range(len(classes))) - set(lists["train"][1].tolist()))]:
        raise DataError(
            f"{train}: {len(empty)} folders of classes without an image: {first_few(empty)}; put images "
            "there, or remove the folders of these classes"
        )
    val_is_test = folders["val"].resolve() == folders["test"].resolve()
    return build_corpus("image_folder", names, lists, data.root, data, val_is_test=val_is_test)


def _split_folder(root: Path, split: str) -> Path:
    found = next((root / name for name in SPLIT_NAMES[split] if is_folder(root / name)), None)
    if found is None:
        raise DataError(
            f"{root / split}: no such folder; image_folder is train/, val/ and test/ with a folder per class"
        )
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
    """Raise what ``os.walk`` would pass over: a class whose folder cannot be listed would have fewer images."""
    if not isinstance(error, FileNotFoundError):  # a class that this split does not have
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error


def _list_images(root: Path, folder: Path, classes: list[str]) -> Listed:
    keys: list[str] = []
    labels: list[int] = []
    for class_id, name in enumerate(classes):
        found = sorted(
            Path(parent, file).relative_to(root).as_posix()
            for parent, _, files in os.walk(folder / name, onerror=_refuse)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        )
        keys += found
        labels += [class_id] * len(found)
    if not keys:
        raise DataError(f"{folder}: no images ({', '.join(SUFFIXES)}) in its folders of classes")
    return keys, np.array(labels, dtype=np.int64)


def open_csv(data: Data) -> Corpus:
    """Open a tree by its tables."""
    folder = data.lists or data.root
    tables = {split: _read_table(folder / f"{split}.csv", data) for split in SPLITS}
    train_labels = {label for _, label in tables["train"]}
    are_ids = all(label.isdigit() for label in train_labels)
    if data.class_names is not None:
        names = read_class_names(data.class_names)
    elif are_ids:
        raise DataError(
            f"{folder / 'train.csv'}: column '{data.label_column}' has class ids and no names; write a text file "
            "of one name per line and name it by data.class_names"
        )
    else:
        names = tuple(sorted(train_labels))
    ids = {str(class_id) if are_ids else name: class_id for class_id, name in enumerate(names)}
    lists = {}
    for split, rows in tables.items():
        if unknown := sorted({label for _, label in rows if label not in ids}):
            raise DataError(f"{folder / split}.csv: {len(unknown)} labels without a class: {first_few(unknown)}")
        lists[split] = [key for key, _ in rows], np.array([ids[label] for _, label in rows], dtype=np.int64)
    return build_corpus("csv", names, lists, folder, data)


def _read_table(path: Path, data: Data) -> list[tuple[str, str]]:
    """Return (path, label) of each row."""
    columns = (data.image_column, data.label_column)
    try:
        reader = csv.DictReader(read_lines(path), strict=True)
        reader.fieldnames = header = [name.strip() for name in reader.fieldnames or []]
        if absent := [column for column in columns if column not in header]:
            raise DataError(
                f"{path}: no column '{absent[0]}'; its columns are {', '.join(header) or 'none'}: name them by "
                "data.image_column and data.label_column"
            )
        rows, wrong = [], []
        for row in reader:
            key, label = ((row[column] or "").strip() for column in columns)
            if key and label:
                rows.append((key, label))
            else:
                wrong.append(f"line {reader.line_num}")
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from error
    if wrong:
        raise DataError(f"{path}: {len(wrong)} rows lack a path or a label: {first_few(wrong)}")
    check_keys(path, [key for key, _ in rows])
    return rows
