"""Write iNaturalist 2018's lists and class names from its official JSON files.

    python data/make_inaturalist18_lists.py data/iNaturalist data/data_txt/iNaturalist18

The first folder holds train2018.json, val2018.json and categories.json (in train2018.json itself names may be numbers).
Recipes can also read the JSON files themselves; lists open faster.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ltgc_local.datasets.inaturalist18 import NAMES_FILE, read_annotations, read_category_names
from ltgc_local.errors import LtgcError


def make_lists(source: Path, target: Path) -> None:
    """Write iNaturalist18_{train,val}.txt and the class names.

    Raises:
        DataError: a JSON file is missing or damaged.
    """
    categories = source / "categories.json"
    names = read_category_names(categories if categories.is_file() else source / "train2018.json")
    target.mkdir(parents=True, exist_ok=True)
    (target / NAMES_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    for split in ("train", "val"):
        keys, labels = read_annotations(source / f"{split}2018.json")
        lines = (f"{key} {label}\n" for key, label in zip(keys, labels.tolist(), strict=True))
        (target / f"iNaturalist18_{split}.txt").write_text("".join(lines), encoding="utf-8")
        print(f"{target / f'iNaturalist18_{split}.txt'}: {len(keys)} images")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        make_lists(Path(sys.argv[1]), Path(sys.argv[2]))
    except LtgcError as error:
        sys.exit(f"{error}")
