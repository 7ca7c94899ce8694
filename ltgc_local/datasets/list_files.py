"""Your own images by lists of "relative/path label" lines: train.txt, val.txt, test.txt, and class_names.txt."""

from __future__ import annotations

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.class_names import read_class_names
from ltgc_local.datasets.image_files import build_image_files, check_no_overlap
from ltgc_local.datasets.lists import SPLITS, read_list
from ltgc_local.recipe.schema import Data

NAME = "list_files"


def open_list_files(data: Data) -> Corpus:
    """Open a tree by its lists.

    Raises:
        DataError: lists or class names are missing or damaged, or a training image is in another list too.
    """
    folder = data.lists or data.root
    splits = {}
    for split in SPLITS:
        splits[split] = build_image_files(split, data, *read_list(folder / f"{split}.txt"))
    names = read_class_names(data.class_names or folder / "class_names.txt")
    check_no_overlap(str(folder), splits["train"], splits["val"], splits["test"])
    shared = not set(splits["val"].keys).isdisjoint(splits["test"].keys)
    return Corpus(NAME, names, splits["train"], splits["val"], splits["test"], val_is_test=shared)
