"""DIOR, FGSC-23 and DOTA as crops, and any folder laid out as TGN's release has them.

<root>/anno/DIOR_train.txt        lines "0/00008_0.jpg 0": path under train/, one blank, class id
<root>/anno/DIOR_test.txt
<root>/train/<class>/x.jpg        <root>/test/<class>/x.jpg

The release has no validation images and looks at the test images after every epoch. Here ``data.val_percent`` of each
class's training images are held out (by the data's seed, not the run's); 0 keeps all of them for training, and val is
then the test split, on which nothing may be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.class_names import choose_class_names, read_class_names
from ltgc_local.datasets.facts import CROPS, check_totals
from ltgc_local.datasets.image_files import ImageFiles, build_image_files, check_no_overlap
from ltgc_local.datasets.lists import check_folders, read_list
from ltgc_local.datasets.looking import is_folder, is_there, list_names
from ltgc_local.errors import DataError
from ltgc_local.recipe.schema import Data
from ltgc_local.seeding import item_seed

NAME = "anno_lists"


def open_dior(data: Data) -> Corpus:
    """Open DIOR's crops (20 classes); raises DataError where they are missing, damaged or others."""
    return _open_known("dior", data)


def open_fgsc23(data: Data) -> Corpus:
    """Open FGSC-23 (23 classes); raises DataError where it is missing, damaged or another."""
    return _open_known("fgsc23", data)


def open_dota(data: Data) -> Corpus:
    """Open DOTA's crops (15 classes); raises DataError where they are missing, damaged or others."""
    return _open_known("dota", data)


def open_anno_lists(data: Data) -> Corpus:
    """Open a folder of your own in this layout.

    Class names are those of ``data.class_names``, of class_names.txt beside the lists, or the folders'.

    Raises:
        DataError: lists are missing or damaged, or no names are to be had.
    """
    train, test = (_read(data, split) for split in ("train", "test"))
    return _split(NAME, _own_names(data, train, test), train, test, data)


def _open_known(name: str, data: Data) -> Corpus:
    train, test = (_read(data, split) for split in ("train", "test"))
    facts = CROPS[name]
    check_totals(name, facts, (len(train), len(test)), [train.labels, test.labels], str(_folder(data)))
    names = choose_class_names(data.class_names, f"{name}.txt", facts.num_classes)
    return _split(name, names, train, test, data)


def _folder(data: Data) -> Path:
    return data.lists or data.root / "anno"


def _read(data: Data, split: str) -> ImageFiles:
    """Read the one list of a split; its keys begin with the split's folder."""
    folder = _folder(data)
    names = list_names(folder) if is_folder(folder) else []
    lists = [folder / name for name in names if name.endswith(f"{split}.txt")]
    if len(lists) != 1:
        found = f"found {', '.join(path.name for path in lists)}" if lists else "there is none"
        raise DataError(
            f"{folder}: expected one list of {split} images, such as DIOR_{split}.txt; {found} (data/README.md)"
        )
    keys, labels = read_list(lists[0])
    folders = [key.partition("/")[0] if "/" in key else None for key in keys]
    check_folders(lists[0], keys, labels, folders)
    for key, label, name in zip(keys, labels.tolist(), folders, strict=True):
        if name is not None and name.isdecimal() and int(name) != label:
            raise DataError(f"{lists[0]}: {key} has label {label}, but its folder is class {name}")
    return build_image_files(split, data, [f"{split}/{key}" for key in keys], labels)


def _own_names(data: Data, *splits: ImageFiles) -> tuple[str, ...]:
    num_classes = 1 + max(int(split.labels.max()) for split in splits)
    beside = _folder(data) / "class_names.txt"
    path = data.class_names or (beside if is_there(beside) else None)
    if path is not None:
        names = read_class_names(path)
        if len(names) < num_classes:
            raise DataError(f"{path}: {len(names)} class names, but there are {num_classes} classes")
        return names
    train = splits[0]
    folders = {label: key.split("/")[1] for key, label in zip(train.keys, train.labels.tolist(), strict=True)}
    if len(folders) < num_classes or any(name.isdecimal() for name in folders.values()):
        raise DataError(
            f"{data.root}: the folders are numbers, and prompts need names: write them into {beside}, one a line by "
            "class id, or give data.class_names"
        )
    return tuple(folders[label].replace("_", " ") for label in range(num_classes))


def _split(name: str, names: Sequence[str], train: ImageFiles, test: ImageFiles, data: Data) -> Corpus:
    check_no_overlap(str(_folder(data)), train, test)
    held_out = _hold_out(name, train.labels, data)
    if not held_out.any():
        val = build_image_files("val", data, test.keys, test.labels)
        return Corpus(name, tuple(names), train, val, test, val_is_test=True)
    parts = {
        part: build_image_files(part, data, [train.keys[row] for row in np.flatnonzero(mask)], train.labels[mask])
        for part, mask in (("train", ~held_out), ("val", held_out))
    }
    return Corpus(name, tuple(names), parts["train"], parts["val"], test)


def _hold_out(name: str, labels: NDArray[np.int64], data: Data) -> NDArray[np.bool_]:
    """Return which training images are validation images: of a class of two or more at least one."""
    held_out = np.zeros(len(labels), dtype=bool)
    for class_id in np.unique(labels) if data.val_percent else ():
        rows = np.flatnonzero(labels == class_id)
        number = max(1, int(len(rows) * data.val_percent / 100)) if len(rows) > 1 else 0
        rng = np.random.default_rng(item_seed(data.split_seed, name, int(class_id)))
        held_out[rng.permutation(rows)[:number]] = True
    return held_out
