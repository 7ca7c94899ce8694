"""Places-LT, version 2 (Liu et al. 2019): Places365's images by three lists, Places_LT_{train,val,test}.txt.

Lists and trees come in two layouts each, and any list is read from any tree:
  data_256/a/apartment_building/outdoor/x.jpg   val_256/Places365_val_x.jpg
  train/apartment_building-outdoor/x.jpg        val/apartment_building-outdoor/Places365_val_x.jpg
"""

from __future__ import annotations

from functools import cache

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.facts import PLACES_LT, check_facts
from ltgc_local.datasets.image_files import Layout, build_corpus
from ltgc_local.datasets.lists import FOLDER, SPLITS, read_class_names, read_list
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data


@cache
def categories() -> tuple[tuple[str, str], ...]:
    """Return (official category, such as "apartment_building/outdoor", name for prompts) by class id."""
    rows = (line.partition("\t") for line in read_class_names(FOLDER / "places365.txt"))
    return tuple((category, name) for category, _, name in rows)


def _official(label: int) -> str:
    return categories()[label][0]


def _flat(label: int) -> str:
    return _official(label).replace("/", "-")


def _file(key: str) -> str:
    return key.rpartition("/")[2]


TRAIN_LAYOUTS: tuple[Layout, ...] = (
    lambda key, label: f"data_256/{_official(label)[0]}/{_official(label)}/{_file(key)}",
    lambda key, label: f"train/{_flat(label)}/{_file(key)}",
)
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "train": TRAIN_LAYOUTS,
    "val": TRAIN_LAYOUTS,
    "test": (lambda key, label: f"val_256/{_file(key)}", lambda key, label: f"val/{_flat(label)}/{_file(key)}"),
}


def open_places_lt(data: Data) -> Corpus:
    """Open the benchmark by its lists, and check that they are the published ones."""
    folder, lists = data.lists or data.root, {}
    for split in SPLITS:
        path = folder / f"Places_LT_{split}.txt"
        keys, labels = lists[split] = read_list(path)
        for key, label in zip(keys, labels.tolist(), strict=True):
            if label >= len(categories()):
                raise DataError(f"{path}: {key} has label {label}; Places365's are 0 to {len(categories()) - 1}")
            if _category(key) not in (None, _official(label)):
                raise DataError(f"{path}: {key} has label {label}, which is category {_official(label)}")
    own = data.class_names
    names = [name for _, name in categories()] if own is None else read_class_names(own)
    corpus = build_corpus("places_lt", names, lists, folder, data, LAYOUTS)
    check_facts(corpus, PLACES_LT, str(folder))
    return corpus


def _category(key: str) -> str | None:
    """Return the category that a path's folders name, None where they name none (val_256)."""
    top, *folders, _ = key.split("/")
    if top == "data_256":
        return "/".join(folders[1:])
    return folders[0].replace("-", "/") if folders and top in ("train", "val") else None
