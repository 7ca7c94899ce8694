"""iNaturalist 2018: by the lists iNaturalist18_{train,val}.txt, or straight from train2018.json and val2018.json.

Its labels are the competition's category ids. It has no test labels, so the field reports on val: val = test here, and
settings are fixed beforehand.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.class_names import read_class_names
from ltgc_local.datasets.facts import INATURALIST18, check_facts
from ltgc_local.datasets.image_files import ImageFiles, build_image_files, check_no_overlap
from ltgc_local.datasets.inaturalist_json import read_annotations, read_category_names
from ltgc_local.datasets.lists import check_folders, read_list
from ltgc_local.datasets.looking import is_there
from ltgc_local.errors import DataError
from ltgc_local.recipe.schema import Data

NAME = "inaturalist18"
NAMES_FILE = "iNaturalist18_class_names.txt"
#: Where class names are looked for, beside the lists and in the root, if the recipe names no file.
NAME_SOURCES = (NAMES_FILE, "categories.json", "train2018.json")


def open_inaturalist18(data: Data) -> Corpus:
    """Open the benchmark by its lists or its JSON files, and check that they are the published ones.

    Raises:
        DataError: files are missing, damaged or others', or there are no class names.
    """
    folder = data.lists or data.root
    train, val = (_read_split(split, folder, data) for split in ("train", "val"))
    test = replace(val, name="test")
    corpus = Corpus(NAME, _find_names(data, folder), train, val, test, val_is_test=True)
    check_facts(corpus, INATURALIST18, str(folder))
    check_no_overlap(str(folder), train, val)
    return corpus


def _read_split(split: str, folder: Path, data: Data) -> ImageFiles:
    path, annotations = folder / f"iNaturalist18_{split}.txt", folder / f"{split}2018.json"
    if is_there(path):
        keys, labels = read_list(path)
    elif is_there(annotations):
        path = annotations
        keys, labels = read_annotations(path)
    else:
        raise DataError(f"{folder}: neither {path.name} nor {annotations.name}; data.lists names their folder")
    # train_val2018/<Supercategory>/<category id>/<hash>.jpg
    folders = ["/".join(key.split("/")[-3:-1]) or None for key in keys]
    check_folders(path, keys, labels, folders)
    return build_image_files(split, data, keys, labels)


def _find_names(data: Data, folder: Path) -> tuple[str, ...]:
    if data.class_names is not None:
        path = data.class_names
    else:
        places = [place / name for name in NAME_SOURCES for place in dict.fromkeys((folder, data.root))]
        found = next((place for place in places if is_there(place)), None)
        if found is None:
            raise DataError(
                f"{folder}: no class names: put the competition's categories.json or train2018.json there, or name a "
                "file of one name a line by data.class_names"
            )
        path = found
    return read_category_names(path) if path.suffix == ".json" else read_class_names(path)
