"""DIOR, FGSC-23 and DOTA as crops, and any folder laid out as in TGN's release.

<root>/anno/DIOR_train.txt        lines "0/00008_0.jpg 0": path under train/, one blank, class id
<root>/anno/DIOR_test.txt
<root>/train/<class>/x.jpg        <root>/test/<class>/x.jpg

The release has no validation images and looks at the test images after every epoch. Here ``data.val_percent`` of each
class's training images are held out (by the data's seed, not the run's). With 0, all of them train and val is the test
split, on which nothing may be chosen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.facts import COPY_AGAIN, CROPS, check_numbers
from ltgc_local.datasets.image_files import build_corpus
from ltgc_local.datasets.lists import Listed, check_folders, choose_class_names, read_class_names, read_list
from ltgc_local.datasets.paths import is_folder, is_there, list_names
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data
from ltgc_local.seeding import item_seed


def open_anno_lists(data: Data) -> Corpus:
    """Open one of the three benchmarks, or a folder of your own in this layout.

    Class names of your own folder come from ``data.class_names``, class_names.txt next to the lists, or the folders.
    """
    folder, name = data.lists or data.root / "anno", data.benchmark
    (train, labels), test = (_read_split(folder, split) for split in ("train", "test"))
    if name in CROPS:
        _check_totals(name, labels, test[1], str(folder))
        names = choose_class_names(data.class_names, f"{name}.txt", CROPS[name][0])
    else:
        names = _own_names(data, folder, (train, labels), 1 + int(max(labels.max(), test[1].max())))
    held_out = _hold_out(name, labels, data)
    lists = {
        part: ([train[row] for row in np.flatnonzero(mask)], labels[mask])
        for part, mask in (("train", ~held_out), ("val", held_out))
    } | {"test": test}
    if not held_out.any():
        lists["val"] = test
    return build_corpus(name, names, lists, folder, data)


def _read_split(folder: Path, split: str) -> Listed:
    """Read the one list of a split; its keys begin with the split's folder."""
    names = list_names(folder) if is_folder(folder) else []
    lists = [folder / name for name in names if name.endswith(f"{split}.txt")]
    if len(lists) != 1:
        found = f"found {', '.join(path.name for path in lists)}" if lists else "there is none"
        raise DataError(
            f"{folder}: expected one list of {split} images, such as DIOR_{split}.txt; {found} (data/README.md)"
        )
    keys, labels = read_list(lists[0])
    folders = [key.partition("/")[0] if "/" in key else None for key in keys]
    check_folders(lists[0], (keys, labels), folders)
    for key, label, name in zip(keys, labels.tolist(), folders, strict=True):
        if name is not None and name.isdecimal() and int(name) != label:
            raise DataError(f"{lists[0]}: {key} has label {label}, but its folder is class {name}")
    return [f"{split}/{key}" for key in keys], labels


def _check_totals(name: str, train: NDArray[np.int64], test: NDArray[np.int64], where: str) -> None:
    """Refuse lists that are not the benchmark's."""
    num_classes, num_train, num_test = CROPS[name]
    pairs = [
        ("training images", len(train), num_train),
        ("test images", len(test), num_test),
        ("classes of training images", len(np.unique(train)), num_classes),
        ("classes of test images", len(np.unique(test)), num_classes),
        ("largest class id", int(max(train.max(), test.max())), num_classes - 1),
    ]
    remedy = COPY_AGAIN.replace(" (", ", or write 'benchmark: anno_lists' for crops of your own (")
    check_numbers(name, where, pairs, remedy)


def _own_names(data: Data, folder: Path, train: Listed, num_classes: int) -> tuple[str, ...]:
    beside = folder / "class_names.txt"
    path = data.class_names or (beside if is_there(beside) else None)
    if path is not None:
        names = read_class_names(path)
        if len(names) < num_classes:
            raise DataError(f"{path}: {len(names)} class names, but there are {num_classes} classes")
        return names
    folders = {label: key.split("/")[1] for key, label in zip(train[0], train[1].tolist(), strict=True)}
    if len(folders) < num_classes or any(name.isdecimal() for name in folders.values()):
        raise DataError(
            f"{data.root}: the folders are numbers, and prompts need names: write them into {beside}, one per line by "
            "class id, or give data.class_names"
        )
    return tuple(folders[label].replace("_", " ") for label in range(num_classes))


def _hold_out(name: str, labels: NDArray[np.int64], data: Data) -> NDArray[np.bool_]:
    """Return which training images become validation images: at least one in each class of two or more."""
    held_out = np.zeros(len(labels), dtype=bool)
    for class_id in np.unique(labels) if data.val_percent else ():
        rows = np.flatnonzero(labels == class_id)
        number = max(1, int(len(rows) * data.val_percent / 100)) if len(rows) > 1 else 0
        rng = np.random.default_rng(item_seed(data.split_seed, name, int(class_id)))
        held_out[rng.permutation(rows)[:number]] = True
    return held_out
