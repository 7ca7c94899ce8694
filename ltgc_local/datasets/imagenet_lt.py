"""ImageNet-LT (Liu et al. 2019): ImageNet's images by three lists, ImageNet_LT_{train,val,test}.txt.

The lists name train/n01440764/x.JPEG and, for the test split, val/n01440764/ILSVRC2012_val_x.JPEG. Copies whose
validation images lie flat in val/, or in a folder test/, are read too.
"""

from __future__ import annotations

import re

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.class_names import choose_class_names
from ltgc_local.datasets.facts import IMAGENET_LT, check_facts
from ltgc_local.datasets.image_files import Layout, build_image_files, check_no_overlap
from ltgc_local.datasets.lists import SPLITS, check_folders, read_list
from ltgc_local.errors import DataError
from ltgc_local.recipe.schema import Data

NAME = "imagenet_lt"
WNID = re.compile(r"n[0-9]{8}")


def _flat(key: str, label: int) -> str:
    return f"{key.partition('/')[0]}/{key.rpartition('/')[2]}"


def _in_test(key: str, label: int) -> str:
    return f"test/{key.partition('/')[2]}"


def _flat_in_test(key: str, label: int) -> str:
    return f"test/{key.rpartition('/')[2]}"


LAYOUTS: dict[str, tuple[Layout, ...]] = {"train": (), "val": (), "test": (_flat, _in_test, _flat_in_test)}


def open_imagenet_lt(data: Data) -> Corpus:
    """Open the benchmark by its lists, and check that they are the published ones.

    Raises:
        DataError: lists are missing, damaged or others'; or their labels are not in the order of the WordNet ids.
    """
    folder = data.lists or data.root
    splits = {}
    for split in SPLITS:
        path = folder / f"ImageNet_LT_{split}.txt"
        keys, labels = read_list(path)
        wnids = [part if WNID.fullmatch(part := key.rpartition("/")[0].rpartition("/")[2]) else None for key in keys]
        check_folders(path, keys, labels, wnids)
        ordered = [wnid for _, wnid in sorted({(int(n), w) for n, w in zip(labels, wnids, strict=True) if w})]
        if ordered != sorted(ordered):
            raise DataError(f"{path}: labels are not in the order of the WordNet ids, which class names go by")
        splits[split] = build_image_files(split, data, keys, labels, LAYOUTS[split])
    names = choose_class_names(data.class_names, "imagenet.txt", IMAGENET_LT.num_classes)
    corpus = Corpus(NAME, names, splits["train"], splits["val"], splits["test"])
    check_facts(corpus, IMAGENET_LT, str(folder))
    check_no_overlap(str(folder), splits["train"], splits["val"], splits["test"])
    return corpus
