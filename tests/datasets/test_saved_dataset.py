"""The reader of what ``datasets`` saved: true folders by save_to_disk, and what it refuses."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data
from tests.datasets.conftest import encode

WHAT = "datasets is train, val and test in this folder, as DatasetDict.save_to_disk writes them"


def build(
    labels: Sequence[int | None] = (0, 1, 1),
    names: Sequence[str] = ("bag", "coat"),
    images: Sequence[bytes | None] | None = None,
    columns: tuple[str, str] = ("image", "label"),
) -> datasets.Dataset:
    """Return images of 4x4 pixels of value 0, 1, 2, … and their labels."""
    image, label = columns
    features = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=list(names))})
    images = images if images is not None else [encode(row) for row in range(len(labels))]
    rows = {image: [content and {"bytes": content, "path": None} for content in images], label: list(labels)}
    return datasets.Dataset.from_dict(rows, features=features)


def save(root: Path, num_shards: int = 1, **splits: datasets.Dataset) -> Path:
    whole = {split: build() for split in ("train", "validation", "test")} | splits
    datasets.DatasetDict(whole).save_to_disk(root, num_shards=dict.fromkeys(whole, num_shards))
    return root


def opened(root: Path, **more: Any) -> Corpus:
    return open_corpus(Data(benchmark="datasets", root=root, **more))


def refused(root: Path, **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(root, **more)
    assert caught.value.exit_code == 4
    return str(caught.value).replace(str(root), "ROOT")


@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_saved_dictionary_of_splits_is_a_corpus(tmp_path: Path, num_shards: int) -> None:
    corpus = opened(save(tmp_path / "d", num_shards, train=build(labels=(0, 1, 1, 0, 1))))
    assert (corpus.name, corpus.class_names) == ("datasets", ("bag", "coat"))
    assert list(corpus.train.keys) == [f"train/0000{row}" for row in range(5)]
    assert corpus.val.keys[2] == "val/00002"
    assert corpus.train.labels.dtype == np.int64 and corpus.train.labels.tolist() == [0, 1, 1, 0, 1]
    assert corpus.class_counts() == {0: 2, 1: 3}
    assert len(corpus.train.files) == num_shards
    assert [image.getpixel((0, 0)) for image in corpus.train.images([4, 0, 2])] == [4, 0, 2]
    corpus.check_images_are_there()
    with pytest.raises(ValueError, match="read-only"):
        corpus.train.labels[0] = 1
    for row in (-1, 5):
        with pytest.raises(IndexError):
            corpus.train.image(row)


@pytest.mark.parametrize("name", ["val", "validation", "valid", "dev"])
def test_a_folder_a_split_is_the_same_corpus_under_any_name_of_val(tmp_path: Path, name: str) -> None:
    for split in ("train", name, "test"):
        build().save_to_disk(tmp_path / "apart" / split)
    assert opened(tmp_path / "apart").digest() == opened(save(tmp_path / "together")).digest()


def test_columns_have_other_names_and_further_columns_are_left_alone(tmp_path: Path) -> None:
    own = build(columns=("img", "fine")).add_column("scan", [{"bytes": b"no image", "path": None}] * 3)
    own = own.cast_column("scan", datasets.Image()).with_format("numpy")
    root = save(tmp_path / "d", train=own, validation=own, test=own)
    corpus = opened(root, image_column="img", label_column="fine")
    assert corpus.train.image(2).getpixel((0, 0)) == 2
    assert refused(root) == (
        "ROOT/train: no column 'image' (a struct of 'bytes' and 'path'); its columns are img, fine, scan: name them by "
        "data.image_column and data.label_column"
    )


def test_a_file_of_class_names_replaces_the_features(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("sack\ncloak\n")
    root = save(tmp_path / "d")
    assert opened(root, class_names=tmp_path / "names.txt").class_names == ("sack", "cloak")
    plain = build().cast_column("label", datasets.Value("int64"))
    save(root, train=plain, validation=plain, test=plain)
    assert opened(root, class_names=tmp_path / "names.txt").class_names == ("sack", "cloak")
    assert refused(root).startswith("ROOT/train: no class names for 'label'; write the file with datasets' ClassLabel")


def test_images_that_are_files_are_in_the_saved_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(7))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["bag"])})
    rows = {"image": [str(tmp_path / "a.png")], "label": [0]}
    own = datasets.Dataset.from_dict(rows, features=features)
    root = save(tmp_path / "d", train=own, validation=own, test=own)
    (tmp_path / "a.png").unlink()
    assert opened(root).train.image(0).getpixel((0, 0)) == 7


def test_a_split_pickles_small_and_reads_on(tmp_path: Path) -> None:
    noise = os.urandom(100_000)
    split = opened(save(tmp_path / "d", 2, train=build(images=[encode(0), noise, encode(2)]))).train
    packed = pickle.dumps(split)
    assert len(packed) < 10_000
    assert pickle.loads(packed).image(2).getpixel((0, 0)) == 2  # noqa: S301


def test_the_digest_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    before = opened(save(tmp_path / "d")).digest()
    shutil.copytree(tmp_path / "d", tmp_path / "elsewhere")
    assert opened(tmp_path / "elsewhere").digest() == before
    save(tmp_path / "d", test=build(images=[encode(9)] * 3))
    assert opened(tmp_path / "d").digest() != before


def test_a_val_that_is_a_copy_of_test_is_no_val_to_choose_by(tmp_path: Path) -> None:
    assert opened(save(tmp_path / "same")).val_is_test
    assert not opened(save(tmp_path / "other", test=build(labels=(1, 0, 1)))).val_is_test


def test_opening_asks_no_network_writes_no_cache_and_brings_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from ltgc_local import offline; offline.set_environment(); offline.forbid_network()\n"
        "from ltgc_local.datasets import open_corpus; from ltgc_local.recipe.inputs import Data\n"
        f"corpus = open_corpus(Data(benchmark='datasets', root=Path({str(save(tmp_path / 'd'))!r})))\n"
        "corpus.check_images_decode(); print('torch' in sys.modules)"
    )
    home = {name: str(tmp_path / "home") for name in ("HOME", "HF_HOME", "XDG_CACHE_HOME", "TMPDIR")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | home, capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("False", "")
    assert not (tmp_path / "home").exists()


def test_splits_that_are_missing_are_named(tmp_path: Path) -> None:
    root = save(tmp_path / "d")
    shutil.rmtree(root / "validation")
    assert refused(root) == f"ROOT: val not there; {WHAT}; Dataset.train_test_split takes one from another"
    shutil.rmtree(root / "test")
    assert refused(root).startswith("ROOT: val and test not there; ")
    assert refused(root / "no") == f"ROOT: no such folder; {WHAT}"
    assert refused(root / "train") == (
        f"ROOT: one Dataset; {WHAT}: type DatasetDict({{'train': …, 'val': …, 'test': …}}).save_to_disk(…)"
    )


@pytest.mark.parametrize("place", ["d.py", "train/load.py"])
def test_a_folder_with_a_script_is_refused(tmp_path: Path, place: str) -> None:
    root = save(tmp_path / "d")
    (root / place).write_text("raise SystemExit('this ran')")
    assert refused(root) == (f"ROOT/{place}: a data set's code is never run; give a folder that save_to_disk wrote")


@pytest.mark.parametrize("file", ["data-00000-of-00001.arrow", "state.json", "dataset_info.json"])
@pytest.mark.parametrize("change", [lambda whole: b"", lambda whole: b"hello", lambda whole: whole[: len(whole) // 2]])
def test_a_damaged_file_is_refused(tmp_path: Path, file: str, change: Callable[[bytes], bytes]) -> None:
    path = save(tmp_path / "d") / "test" / file
    path.write_bytes(change(path.read_bytes()))
    assert refused(tmp_path / "d").startswith("ROOT/test: not what save_to_disk writes, or damaged: ")


@pytest.mark.parametrize("content", ["{}", "[]", "null"])
def test_a_state_that_says_nothing_is_refused(tmp_path: Path, content: str) -> None:
    (save(tmp_path / "d") / "train/state.json").write_text(content)
    assert refused(tmp_path / "d").startswith("ROOT/train: not what save_to_disk writes, or damaged: ")


def test_files_that_are_missing_and_empty_splits_are_refused(tmp_path: Path) -> None:
    root = save(tmp_path / "d", 3)
    (root / "train/data-00001-of-00003.arrow").unlink()
    assert "data-00001-of-00003.arrow" in refused(root)
    (save(root) / "test/state.json").unlink()
    assert refused(root).startswith(
        "ROOT/test/state.json: not what save_to_disk writes, or damaged: No such file or directory"
    )
    build(labels=()).save_to_disk(tmp_path / "empty")
    shutil.rmtree(root / "test")
    shutil.copytree(tmp_path / "empty", root / "test")
    assert refused(root) == (
        "ROOT/test: no Arrow files; the split has no images, or the folder is half a copy: save it again"
    )


def test_columns_of_other_types_are_refused(tmp_path: Path) -> None:
    text = build().cast_column("label", datasets.Value("string"))
    assert refused(save(tmp_path / "text", train=text)) == (
        "ROOT/train: column 'label' is string, expected whole numbers; type dataset.class_encode_column('label'), and "
        "save it"
    )
    paths = datasets.Dataset.from_dict({"image": ["a.png"], "label": [0]})
    assert refused(save(tmp_path / "paths", train=paths)) == (
        "ROOT/train: column 'image' is string, expected a struct of 'bytes' and 'path'; type "
        "dataset.cast_column('image', Image()), and save it"
    )


@pytest.mark.parametrize(
    ("split", "broken", "expected"),
    [
        ("train", {"labels": (0, None, 1)}, "ROOT/train: 1 of 3 labels are missing"),
        (
            "train",
            {"labels": (0, -1, -1)},
            "datasets train: label -1 of train/00001 has no class name: expected 0 to 1 (2 such labels)",
        ),
        (
            "validation",
            {"names": ("bag", "hat")},
            "ROOT/validation: its class names are not train's: class 1 is 'hat', expected 'coat'",
        ),
        ("test", {"names": ("bag", "coat", "hat")}, "ROOT/test: its class names are not train's: 3 names, expected 2"),
    ],
)
def test_labels_and_names_that_do_not_fit_are_refused(
    tmp_path: Path, split: str, broken: dict[str, Any], expected: str
) -> None:
    assert refused(save(tmp_path / "d", **{split: build(**broken)})) == expected


def test_classes_of_one_name_are_refused_by_name(tmp_path: Path) -> None:
    own = build(names=("crane", " Crane "))
    assert refused(save(tmp_path / "d", train=own, validation=own, test=own)).startswith(
        "datasets: classes 0 and 1 are both named ' Crane '; prompts cannot tell them apart"
    )


def test_an_image_that_does_not_decode_names_its_split_and_row(tmp_path: Path) -> None:
    corpus = opened(save(tmp_path / "d", train=build(images=[b"no image", encode(1)[:-20], None])))
    for row, words in ((0, "does not decode"), (1, "does not decode"), (2, "has no bytes in the file; write it with")):
        with pytest.raises(DataError, match=rf"d/train: image train/0000{row} {words}"):
            corpus.train.image(row)
    with pytest.raises(DataError, match="datasets: 3 images are missing or damaged"):
        corpus.check_images_decode()
