"""ImageNet-LT (Liu et al. 2019): ImageNet's images by three lists, ImageNet_LT_{train,val,test}.txt.

The lists name train/n01440764/x.JPEG and, for the test split, val/n01440764/ILSVRC2012_val_x.JPEG. Copies whose
validation images are flat in val/, or in a folder test/, are read too.
"""

from __future__ import annotations

import re

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.facts import IMAGENET_LT, check_facts
from ltgc_local.datasets.image_files import Layout, build_corpus
from ltgc_local.datasets.lists import SPLITS, check_folders, choose_class_names, read_list
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data

WNID = re.compile(r"n[0-9]{8}")
TEST_LAYOUTS: tuple[Layout, ...] = (
    lambda key, label: f"{key.partition('/')[0]}/{key.rpartition('/')[2]}",  # val/x.JPEG
    lambda key, label: f"test/{key.partition('/')[2]}",  # test/n01440764/x.JPEG
    lambda key, label: f"test/{key.rpartition('/')[2]}",  # test/x.JPEG
)


def open_imagenet_lt(data: Data) -> Corpus:
    """Open the benchmark by its lists, and check that they are the published ones."""
    folder, lists = data.lists or data.root, {}
    for split in SPLITS:
        path = folder / f"ImageNet_LT_{split}.txt"
        keys, labels = lists[split] = read_list(path)
        wnids = [part if WNID.fullmatch(part := key.rpartition("/")[0].rpartition("/")[2]) else None for key in keys]
        check_folders(path, lists[split], wnids)
        ordered = [wnid for _, wnid in sorted({(int(n), w) for n, w in zip(labels, wnids, strict=True) if w})]
        if ordered != sorted(ordered):
            raise DataError(f"{path}: labels are not in the order of the WordNet ids, which class names go by")
    names = choose_class_names(data.class_names, "imagenet.txt", IMAGENET_LT.num_classes)
    corpus = build_corpus("imagenet_lt", names, lists, folder, data, {"test": TEST_LAYOUTS})
    check_facts(corpus, IMAGENET_LT, str(folder))
    return corpus
