"""Places-LT, version 2 (Liu et al. 2019): Places365's images by three lists, Places_LT_{train,val,test}.txt.

Two layouts are about, of the lists as of the trees, and any list is read from any tree:
  data_256/a/apartment_building/outdoor/x.jpg   val_256/Places365_val_x.jpg
  train/apartment_building-outdoor/x.jpg        val/apartment_building-outdoor/Places365_val_x.jpg
"""

from __future__ import annotations

from functools import cache

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.class_names import FOLDER, read_class_names
from ltgc_local.datasets.facts import PLACES_LT, check_facts
from ltgc_local.datasets.image_files import Layout, build_image_files, check_no_overlap
from ltgc_local.datasets.lists import SPLITS, read_list
from ltgc_local.errors import DataError
from ltgc_local.recipe.schema import Data

NAME = "places_lt"


@cache
def categories() -> tuple[tuple[str, str], ...]:
    """Return (official category, such as "apartment_building/outdoor", name for prompts) by class id."""
    rows = (line.partition("\t") for line in read_class_names(FOLDER / "places365.txt"))
    return tuple((category, name) for category, _, name in rows)


def _in_data_256(key: str, label: int) -> str:
    category = categories()[label][0]
    return f"data_256/{category[0]}/{category}/{key.rpartition('/')[2]}"


def _in_train(key: str, label: int) -> str:
    return f"train/{categories()[label][0].replace('/', '-')}/{key.rpartition('/')[2]}"


def _in_val_256(key: str, label: int) -> str:
    return f"val_256/{key.rpartition('/')[2]}"


def _in_val(key: str, label: int) -> str:
    return f"val/{categories()[label][0].replace('/', '-')}/{key.rpartition('/')[2]}"


TRAIN_LAYOUTS: tuple[Layout, ...] = (_in_data_256, _in_train)
LAYOUTS = {"train": TRAIN_LAYOUTS, "val": TRAIN_LAYOUTS, "test": (_in_val_256, _in_val)}


def open_places_lt(data: Data) -> Corpus:
    """Open the benchmark by its lists, and check that they are the published ones.

    Raises:
        DataError: lists are missing, damaged or others', or a path's folder is not its label's category.
    """
    folder = data.lists or data.root
    splits = {}
    for split in SPLITS:
        path = folder / f"Places_LT_{split}.txt"
        keys, labels = read_list(path)
        for key, label in zip(keys, labels.tolist(), strict=True):
            found = _category(key)
            if label >= len(categories()):
                raise DataError(f"{path}: {key} has label {label}; Places365's are 0 to {len(categories()) - 1}")
            if found is not None and found != categories()[label][0]:
                raise DataError(f"{path}: {key} has label {label}, which is category {categories()[label][0]}")
        splits[split] = build_image_files(split, data, keys, labels, LAYOUTS[split])
    names = tuple(name for _, name in categories())
    if data.class_names is not None:
        names = read_class_names(data.class_names)
    corpus = Corpus(NAME, names, splits["train"], splits["val"], splits["test"])
    check_facts(corpus, PLACES_LT, str(folder))
    check_no_overlap(str(folder), splits["train"], splits["val"], splits["test"])
    return corpus


def _category(key: str) -> str | None:
    """Return the category that a path's folders name, None where it has none (val_256)."""
    top, *folders, _ = key.split("/")
    if top == "data_256":
        return "/".join(folders[1:])
    return folders[0].replace("-", "/") if folders and top in ("train", "val") else None
