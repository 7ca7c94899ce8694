"""Your own images by tables: train.csv, val.csv and test.csv with a header, a column of paths and one of labels.

Labels are class names, or class ids where the recipe names a file of class names.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ltgc_local.datasets.base import Corpus, first_few
from ltgc_local.datasets.class_names import read_class_names
from ltgc_local.datasets.image_files import build_image_files, check_no_overlap
from ltgc_local.datasets.lists import SPLITS, check_keys, read_lines
from ltgc_local.errors import DataError
from ltgc_local.recipe.schema import Data

NAME = "csv"


def open_csv(data: Data) -> Corpus:
    """Open a tree by its tables.

    Raises:
        DataError: a table is missing or damaged, has not the columns, or has labels without a class name.
    """
    folder = data.lists or data.root
    tables = {split: _read_table(folder / f"{split}.csv", data) for split in SPLITS}
    train_labels = {label for _, label in tables["train"]}
    if data.class_names is not None:
        names = read_class_names(data.class_names)
    else:
        if all(label.isdigit() for label in train_labels):
            raise DataError(
                f"{folder / 'train.csv'}: column '{data.label_column}' has class ids and no names; write a text file "
                "of one name a line and name it by data.class_names"
            )
        names = tuple(sorted(train_labels))
    ids = {name: class_id for class_id, name in enumerate(names)}
    if data.class_names is not None and all(label.isdigit() for label in train_labels):
        ids = {str(class_id): class_id for class_id in range(len(names))}
    splits = {}
    for split, rows in tables.items():
        unknown = sorted({label for _, label in rows if label not in ids})
        if unknown:
            raise DataError(f"{folder / split}.csv: {len(unknown)} labels without a class: {first_few(unknown)}")
        labels = np.array([ids[label] for _, label in rows], dtype=np.int64)
        splits[split] = build_image_files(split, data, [key for key, _ in rows], labels)
    check_no_overlap(str(folder), splits["train"], splits["val"], splits["test"])
    shared = not set(splits["val"].keys).isdisjoint(splits["test"].keys)
    return Corpus(NAME, names, splits["train"], splits["val"], splits["test"], val_is_test=shared)


def _read_table(path: Path, data: Data) -> list[tuple[str, str]]:
    """Return (path, label) of each row."""
    columns = (data.image_column, data.label_column)
    try:
        reader = csv.DictReader(read_lines(path), strict=True)
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        absent = [column for column in columns if column not in header]
        if absent:
            raise DataError(
                f"{path}: no column '{absent[0]}'; its columns are {', '.join(header) or 'none'}: name them by "
                "data.image_column and data.label_column"
            )
        rows, wrong = [], []
        for row in reader:
            key, label = ((row[column] or "").strip() for column in columns)
            if key and label:
                rows.append((key, label))
            else:
                wrong.append(f"line {reader.line_num}")
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from error
    if wrong:
        raise DataError(f"{path}: {len(wrong)} rows lack a path or a label: {first_few(wrong)}")
    check_keys(path, [key for key, _ in rows])
    return rows
