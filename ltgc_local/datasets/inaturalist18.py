"""iNaturalist 2018: by the lists iNaturalist18_{train,val}.txt, or straight from train2018.json and val2018.json.

Its labels are the competition's category ids. It has no test labels, so the field reports on val: val = test here, and
settings must be fixed beforehand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.facts import INATURALIST18, check_facts
from ltgc_local.datasets.image_files import build_corpus
from ltgc_local.datasets.lists import Listed, check_folders, check_keys, read_class_names, read_list
from ltgc_local.datasets.paths import check_paths, is_there
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data
from ltgc_local.regular_files import MAX_LIST_BYTES, read_json

NAMES_FILE = "iNaturalist18_class_names.txt"
#: Where class names are looked for, next to the lists and in the root, if the recipe names no file.
NAME_SOURCES = (NAMES_FILE, "categories.json", "train2018.json")


def open_inaturalist18(data: Data) -> Corpus:
    """Open the benchmark by its lists or its JSON files, and check that they are the published ones."""
    folder = data.lists or data.root
    train, val = (_read_split(split, folder) for split in ("train", "val"))
    lists = {"train": train, "val": val, "test": val}
    corpus = build_corpus("inaturalist18", _find_names(data, folder), lists, folder, data)
    check_facts(corpus, INATURALIST18, str(folder))
    return corpus


def read_annotations(path: Path) -> Listed:
    """Return file names and category ids (N,) of a COCO-like JSON file, in the order of its images."""
    value = _read_json(path)
    try:
        label_of = {each["image_id"]: int(each["category_id"]) for each in value["annotations"]}
        images = [(str(image["file_name"]), label_of.get(image["id"])) for image in value["images"]]
        labels = np.array([-1 if label is None else label for _, label in images], dtype=np.int64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not iNaturalist's annotations (images, annotations with category_id)") from error
    if without := [name for name, label in images if label is None]:
        raise DataError(f"{path}: {len(without)} images have no category, the first is {without[0]}")
    keys = [name for name, _ in images]
    check_paths(path, keys)
    check_keys(path, keys)
    return keys, labels


def read_category_names(path: Path) -> tuple[str, ...]:
    """Return the names by category id, from categories.json or from the categories of train2018.json."""
    value = _read_json(path)
    try:
        rows = value if isinstance(value, list) else value["categories"]
        names = {int(row["id"]): str(row["name"]) for row in rows}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: no iNaturalist categories (id, name)") from error
    if not names or sorted(names) != list(range(len(names))):
        raise DataError(f"{path}: category ids are not 0 to {len(names) - 1}")
    if all(name.isdigit() for name in names.values()):
        raise DataError(
            f"{path}: its names are numbers, as the competition hid them; put the published categories.json next to it"
        )
    return tuple(names[class_id] for class_id in range(len(names)))


def _read_split(split: str, folder: Path) -> Listed:
    path, annotations = folder / f"iNaturalist18_{split}.txt", folder / f"{split}2018.json"
    if is_there(path):
        listed = read_list(path)
    elif is_there(annotations):
        path, listed = annotations, read_annotations(annotations)
    else:
        raise DataError(f"{folder}: neither {path.name} nor {annotations.name}; data.lists names their folder")
    # train_val2018/<Supercategory>/<category id>/<hash>.jpg
    check_folders(path, listed, ["/".join(key.split("/")[-3:-1]) or None for key in listed[0]])
    return listed


def _find_names(data: Data, folder: Path) -> tuple[str, ...]:
    places = [place / name for name in NAME_SOURCES for place in dict.fromkeys((folder, data.root))]
    path = data.class_names or next((place for place in places if is_there(place)), None)
    if path is None:
        raise DataError(
            f"{folder}: no class names: put the competition's categories.json or train2018.json there, or name a "
            "file of one name per line by data.class_names"
        )
    return read_category_names(path) if path.suffix == ".json" else read_class_names(path)


def _read_json(path: Path) -> Any:
    try:
        return read_json(path, MAX_LIST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged JSON: {error}; copy it again") from error
