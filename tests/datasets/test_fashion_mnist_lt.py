"""The shipped benchmark is the one that the data card describes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ltgc_local.datasets import open_corpus
from ltgc_local.datasets.groups import shot_of, tail_classes
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data

SHIPPED = Path(__file__).resolve().parents[2] / "data/fashion_mnist_lt"


def test_the_shipped_data_open_with_the_counts_of_the_long_tail() -> None:
    corpus = open_corpus(Data(root=SHIPPED))
    assert (len(corpus.train), len(corpus.val), len(corpus.test)) == (2480, 1000, 10000)
    counts = corpus.class_counts()
    assert sorted(counts.values(), reverse=True) == [1000, 599, 359, 215, 129, 77, 46, 28, 17, 10]
    assert [sum(shot_of(n) == shot for n in counts.values()) for shot in ("many", "medium", "few")] == [5, 3, 2]
    assert len(tail_classes(counts, 100)) == 5
    assert "ankle boot" in corpus.class_names


def test_images_are_28_pixels_grey() -> None:
    picture = open_corpus(Data(root=SHIPPED)).test.image(9999)
    assert (picture.size, picture.mode) == ((28, 28), "L")


def test_other_numbers_of_images_are_refused(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path, dirs_exist_ok=True)
    whole = pq.read_table(SHIPPED / "train.parquet")
    pq.write_table(whole.slice(0, 2479), tmp_path / "train.parquet")
    with pytest.raises(DataError) as caught:
        open_corpus(Data(root=tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}/train.parquet: 2479 images, but fashion_mnist_lt has 2480; "
        "type: python data/make_fashion_mnist_lt.py"
    )
    other = whole["label"].to_pylist()
    other[other.index(6)] = 4  # one image of the largest class becomes one of the smallest
    column = whole.schema.get_field_index("label")
    pq.write_table(whole.set_column(column, whole.schema.field("label"), [other]), tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=r"images per class are 999, .* 11, but fashion_mnist_lt has 1000, .* 10; type: python"
    ):
        open_corpus(Data(root=tmp_path))


def test_missing_data_say_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder; .* type: python data/make_fashion_mnist_lt\.py"):
        open_corpus(Data(root=tmp_path / "none"))


def test_datasets_reads_the_same_names_labels_and_pixels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    theirs = datasets.Dataset.from_parquet(str(SHIPPED / "val.parquet"), cache_dir=str(tmp_path))
    ours = open_corpus(Data(root=SHIPPED))
    assert tuple(theirs.features["label"].names) == ours.class_names
    assert theirs["label"][:] == ours.val.labels.tolist()
    assert theirs[17]["image"].tobytes() == ours.val.image(17).tobytes()
    assert json.loads((SHIPPED / "sha256.json").read_text())["files"]["val.parquet"]["rows"] == len(theirs)
