"""Read a corpus that ``datasets`` saved: by DatasetDict.save_to_disk, or Dataset.save_to_disk into a folder per split.

<root>/train/data-00000-of-00002.arrow, data-00001-of-00002.arrow, dataset_info.json, state.json
<root>/validation/...             <root>/test/...

``datasets`` maps the Arrow files into memory and copies nothing, into a cache or elsewhere; nothing in them is code or
a pickle. Images are decoded here, not by ``datasets``, so that they and their errors equal the other readers'.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ltgc_local.datasets.base import Corpus, rules_of
from ltgc_local.datasets.lists import SPLIT_NAMES, SPLITS, read_class_names
from ltgc_local.datasets.packed import (
    PackedSplit,
    are_copies,
    check_columns,
    first_line,
    number_keys,
    parse_class_names,
    parse_labels,
)
from ltgc_local.datasets.paths import is_folder, is_there, list_names
from ltgc_local.errors import BackendError, DataError
from ltgc_local.image_decoding import ImageRules
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.recipe.inputs import Data
from ltgc_local.regular_files import MIB, check_regular, read_json

WHAT = "datasets is train, val and test in this folder, as DatasetDict.save_to_disk writes them"
#: What ``datasets`` raises on files that are missing, cut short, or not what it wrote.
DAMAGE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
MAX_STATE_BYTES = 64 * MIB


@dataclass(frozen=True, eq=False)
class SavedSplit(PackedSplit):
    """One split in Arrow files."""

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
        DataError: a split is missing or damaged, lacks the columns, its labels have no names, or there is a script.
    """
    own = names = None if data.class_names is None else read_class_names(data.class_names)
    splits = {}
    for split, folder in _find_folders(data.root).items():
        dataset, encoded, labels = _load(folder, data)
        if own is None:
            names = parse_class_names(folder, dataset.data.schema, data.label_column, names, "train")
        files = tuple(Path(file["filename"]) for file in dataset.cache_files)
        keys = number_keys(split, len(labels))
        splits[split] = SavedSplit(split, folder, files, keys, labels, encoded, rules_of(data), data.image_column)
    val_is_test = are_copies(splits["val"].files, splits["test"].files)
    return Corpus("datasets", names or (), **splits, val_is_test=val_is_test)


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
            raise DataError(f"{folder / script}: a data set's code is never run; give a folder that save_to_disk wrote")
    if missing := [split for split in SPLITS if split not in folders]:
        raise DataError(
            f"{root}: {' and '.join(missing)} not there; {WHAT}; Dataset.train_test_split takes one from another"
        )
    return folders


def _load(folder: Path, data: Data) -> tuple[Any, Any, NDArray[np.int64]]:
    """Return one split's dataset, its column of images alone, not decoded, and its labels (N,)."""
    import datasets

    if not any(name.endswith(".arrow") for name in list_names(folder)):
        raise DataError(
            f"{folder}: no Arrow files; the split has no images, or the folder is half a copy: save it again"
        )
    try:
        _check_state(folder)
        dataset = datasets.Dataset.load_from_disk(str(folder), keep_in_memory=False).with_format(None)
        check_columns(folder, dataset.data.schema, data)
        images = dataset.select_columns([data.image_column])
        encoded = images.cast_column(data.image_column, datasets.Image(decode=False))
        return dataset, encoded, parse_labels(folder, dataset.data.column(data.label_column))
    except DAMAGE as error:
        if is_out_of_memory(error):
            raise BackendError(f"out of memory while reading {folder}") from error
        named = error.filename if isinstance(error, OSError) and error.filename else folder
        words = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise DataError(f"{named}: not what save_to_disk writes, or damaged: {words}; save it again") from error


def _check_state(folder: Path) -> None:
    """Refuse files that ``datasets`` would open without looking: irregular ones, and ones outside the folder."""
    read_json(folder / "dataset_info.json", MAX_STATE_BYTES)
    for entry in read_json(folder / "state.json", MAX_STATE_BYTES)["_data_files"]:
        name = entry["filename"]
        if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"state.json names the file {name!r}, which must be in this folder")
        check_regular(folder / name)
