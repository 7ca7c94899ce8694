"""Read a corpus that ``datasets`` saved: by DatasetDict.save_to_disk, or by Dataset.save_to_disk into a folder a split.

<root>/train/data-00000-of-00002.arrow, data-00001-of-00002.arrow, dataset_info.json, state.json
<root>/validation/...             <root>/test/...

``datasets`` maps the Arrow files into memory and copies nothing, into a cache or elsewhere; nothing in them is code or
a pickle. Images are decoded here and not by ``datasets``, so that they and their errors are those of the other readers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ltgc_local.datasets.arrow_columns import (
    PackedSplit,
    are_copies,
    check_columns,
    check_same_names,
    first_line,
    number_keys,
    parse_class_names,
    parse_labels,
)
from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.class_names import read_class_names
from ltgc_local.datasets.decode import rules_of
from ltgc_local.datasets.lists import SPLIT_NAMES, SPLITS
from ltgc_local.datasets.looking import is_folder, is_there, list_names
from ltgc_local.errors import BackendError, DataError
from ltgc_local.image_decoding import ImageRules
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.recipe.schema import Data
from ltgc_local.regular_files import MIB, check_regular, read_json

NAME = "datasets"
WHAT = f"{NAME} is train, val and test in this folder, as DatasetDict.save_to_disk writes them"
#: What ``datasets`` raises on files that are not there, are cut short, or are not what it wrote.
DAMAGE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
MAX_STATE_BYTES = 64 * MIB
STATE_FILES = ("state.json", "dataset_info.json")


@dataclass(frozen=True, eq=False)
class SavedSplit(PackedSplit):
    """One split in Arrow files. It pickles as their paths, so that worker processes can have it."""

    name: str
    folder: Path
    files: tuple[Path, ...]
    keys: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)  # (N,)
    encoded: Any = field(repr=False)  # the datasets.Dataset of the column of images alone, not decoded
    rules: ImageRules
    image_column: str

    def packed(self, row: int) -> tuple[dict[str, Any] | None, Path]:
        return self.encoded[row][self.image_column], self.folder


def open_saved_dataset(data: Data) -> Corpus:
    """Open the three splits; images stay in the files.

    Raises:
        DataError: a split is missing or damaged, has not the columns, its labels have no names, or there is a script.
    """
    folders = _find_folders(data.root)
    given = None if data.class_names is None else read_class_names(data.class_names)
    names = given
    splits = {}
    for split, folder in folders.items():
        splits[split], own = _open_split(split, folder, data, given)
        names = own if names is None else names
        check_same_names(folder, names, own, "train")
    val_is_test = are_copies(splits["val"].files, splits["test"].files)
    return Corpus(NAME, names or (), splits["train"], splits["val"], splits["test"], val_is_test)


def _find_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split."""
    if not is_folder(root):
        raise DataError(f"{root}: no such folder; {WHAT}")
    if is_there(root / "state.json"):
        raise DataError(
            f"{root}: one Dataset; {WHAT}: type DatasetDict({{'train': …, 'val': …, 'test': …}}).save_to_disk(…)"
        )
    found = {split: [root / name for name in SPLIT_NAMES[split] if is_folder(root / name)] for split in SPLITS}
    folders = {split: some[0] for split, some in found.items() if some}
    for folder in (root, *folders.values()):
        for script in (name for name in list_names(folder) if name.endswith(".py")):
            raise DataError(
                f"{folder / script}: no data set's code is run here; give a folder that save_to_disk wrote: it has none"
            )
    if missing := [split for split in SPLITS if split not in folders]:
        raise DataError(
            f"{root}: {' and '.join(missing)} not there; {WHAT}; Dataset.train_test_split takes one from another"
        )
    return folders


def _open_split(
    split: str, folder: Path, data: Data, class_names: tuple[str, ...] | None
) -> tuple[SavedSplit, tuple[str, ...]]:
    """Read the labels and class names of one split, not its images."""
    import datasets

    if not any(name.endswith(".arrow") for name in list_names(folder)):
        raise DataError(
            f"{folder}: no Arrow files; the split has no images, or the folder is half a copy: save it again"
        )
    try:
        _check_state(folder)
        dataset = datasets.Dataset.load_from_disk(str(folder), keep_in_memory=False).with_format(None)
        schema = dataset.data.schema
        check_columns(folder, schema, data.image_column, data.label_column)
        names = class_names or parse_class_names(folder, schema, data.label_column)
        labels = parse_labels(folder, dataset.data.column(data.label_column))
        images = dataset.select_columns([data.image_column])
        encoded = images.cast_column(data.image_column, datasets.Image(decode=False))
    except DAMAGE as error:
        if is_out_of_memory(error):
            raise BackendError(f"out of memory while reading {folder}") from error
        named = error.filename if isinstance(error, OSError) and error.filename else folder
        words = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise DataError(f"{named}: not what save_to_disk writes, or damaged: {words}; save it again") from error
    labels.setflags(write=False)
    files = tuple(Path(file["filename"]) for file in dataset.cache_files)
    keys = number_keys(split, len(labels))
    return SavedSplit(split, folder, files, keys, labels, encoded, rules_of(data), data.image_column), names


def _check_state(folder: Path) -> None:
    """Refuse what ``datasets`` would open without looking: files that are none, or lie elsewhere.

    Raises:
        OSError: one is no regular file, or may not be read.
        ValueError: the state names a file outside the folder.
    """
    for name in STATE_FILES:
        read_json(folder / name, MAX_STATE_BYTES)
    for entry in read_json(folder / "state.json", MAX_STATE_BYTES)["_data_files"]:
        name = entry["filename"]
        if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"state.json names the file {name!r}, and it must be one of this folder")
        check_regular(folder / name)
