"""Data of others: nothing in a folder hangs, fills the memory or ends in a traceback; each is an error of the data."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ltgc_local.datasets import Corpus, open_corpus, parquet
from ltgc_local.datasets.base import Checked
from ltgc_local.errors import BackendError, DataError
from ltgc_local.recipe.inputs import Data
from tests.datasets.conftest import encode
from tests.datasets.mock_ups import write_image
from tests.datasets.test_saved_dataset import save
from tests.promptly import unprivileged_folder, within

NESTED = "[" * 100_000


def opened(benchmark: str, root: Path, **more: Any) -> Corpus:
    return open_corpus(Data(benchmark=benchmark, root=root, **more))  # type: ignore[arg-type]


def refused(do: Callable[[], object]) -> str:
    with within(5), pytest.raises(DataError) as caught:
        do()
    assert caught.value.exit_code == 4
    return str(caught.value)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Images of one class in three splits, a.png in each, and lists of them."""
    for split in ("train", "val", "test"):
        write_image(tmp_path / split / "cat/a.png", 1)
        (tmp_path / f"{split}.txt").write_text(f"{split}/cat/a.png 0\n")
        (tmp_path / f"{split}.csv").write_text(f"image,label\n{split}/cat/a.png,cat\n")
    (tmp_path / "class_names.txt").write_text("cat\n")
    return tmp_path


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(600 * 2**20)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (fifo, "not a regular file but a FIFO"),
        (zeros, "not a regular file but a device"),
        (sparse, "629145600 bytes, but at most 536870912 are read"),
    ],
)
def test_an_image_that_is_no_file_or_a_huge_one_is_refused(
    tree: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(tree / "train/cat/a.png")
    corpus = opened("image_folder", tree)
    assert words in refused(lambda: corpus.train.image(0))
    assert f"{tree}/train/cat/a.png: cannot be read: {words}" in refused(corpus.check_images_decode)


@pytest.mark.parametrize("spoil", [fifo, zeros])
def test_an_image_that_is_no_file_is_noticed_by_listing(tree: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tree / "train/cat/a.png")
    corpus = opened("image_folder", tree)
    assert "train/cat/a.png not regular files, of 1 images" in refused(corpus.check_images_are_there)
    assert "not a regular file" in refused(corpus.digest)


def test_a_link_to_an_image_is_an_image_and_one_to_nothing_is_missing(tree: Path) -> None:
    (tree / "train/cat/b.png").symlink_to(tree / "train/cat/a.png")
    opened("image_folder", tree).check_images_are_there()
    (tree / "train/cat/c.png").symlink_to(tree / "nothing")
    assert "train/cat/c.png" in refused(opened("image_folder", tree).check_images_are_there)


@pytest.mark.parametrize("kind", ["list_files", "csv"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train/" + "x" * 400 + ".png", "is longer than names of files can be"),
        ("/".join(["train", *["x" * 200] * 30]) + ".png", "is longer than names of files can be"),
        ("train/a\0b.png", "has a zero byte in its name"),
    ],
    ids=["long name", "long path", "zero byte"],
)
def test_paths_that_no_file_has_are_refused_when_the_list_is_read(tree: Path, kind: str, name: str, words: str) -> None:
    (tree / "train.txt").write_text(f"train/cat/a.png 0\n{name} 0\n")
    (tree / "train.csv").write_text(f"image,label\ntrain/cat/a.png,cat\n{name},cat\n")
    told = refused(lambda: opened(kind, tree))
    assert words in told and len(told) < 500


def test_half_a_character_in_annotations_is_refused(tree: Path) -> None:
    value = {"images": [{"id": 1, "file_name": "train/\ud800.png"}], "annotations": [{"image_id": 1, "category_id": 0}]}
    (tree / "train2018.json").write_text(json.dumps(value))
    (tree / "val2018.json").write_text(json.dumps(value))
    assert "'train/\\ud800.png' is a name that is not UTF-8" in refused(lambda: opened("inaturalist18", tree))


@pytest.mark.parametrize("value", [10**400, 10**30, float("inf"), [1], {}, "x", None])
def test_annotations_of_other_kinds_are_refused(tree: Path, value: Any) -> None:
    for key, other in (("category_id", "image_id"), ("image_id", "category_id")):
        annotation = {key: value, other: 1}
        text = json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": [annotation]})
        (tree / "train2018.json").write_text(text)
        refused(lambda: opened("inaturalist18", tree))


def test_nested_annotations_are_refused(tree: Path) -> None:
    (tree / "train2018.json").write_text(NESTED)
    assert "damaged JSON: nested too deeply" in refused(lambda: opened("inaturalist18", tree))


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems refuse such names themselves")
@pytest.mark.parametrize("place", ["train/caf\udce9", "train/cat/\udcff.png"], ids=["folder", "file"])
def test_names_that_are_not_utf8_are_refused_at_once(tree: Path, place: str) -> None:
    path = tree / place
    write_image(path if path.suffix else path / "b.png", 1)
    assert "is a name that is not UTF-8; rename it" in refused(lambda: opened("image_folder", tree))


LISTS = {
    "list_files": ("train.txt", "class_names.txt"),
    "csv": ("train.csv",),
    "imagenet_lt": ("ImageNet_LT_train.txt",),
    "places_lt": ("Places_LT_train.txt",),
    "inaturalist18": ("train2018.json", "iNaturalist18_train.txt"),
    "anno_lists": ("anno/x_train.txt",),
    "cifar10_lt": ("data_batch_1.bin",),
    "cifar100_lt": ("train.bin",),
    "parquet": ("train.parquet", "train-00000-of-00001.parquet"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in LISTS.items() for name in names])
@pytest.mark.parametrize("spoil", [fifo, zeros])
def test_a_list_that_is_no_file_is_refused(tree: Path, kind: str, name: str, spoil: Callable[[Path], None]) -> None:
    (tree / "anno").mkdir()
    for split in ("val", "test"):
        pq.write_table(pq.read_table(_parquet(tree)), tree / f"{split}.parquet")
    spoil(tree / name)
    assert str(tree) in refused(lambda: opened(kind, tree))


def _parquet(folder: Path) -> Path:
    """Write a Parquet file that could be any split."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat"])})
    row = {"image": [{"bytes": encode(1), "path": None}], "label": [0]}
    path = folder / "whole.parquet"
    datasets.Dataset.from_dict(row, features=features).to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (NESTED, "no class names for 'label'"),
        ('{"info": {"features": {"label": {"names": ["\\ud800"]}}}}', "class 0 has a name that is not UTF-8"),
        (b"\xff\xfe", "no class names for 'label'"),
    ],
    ids=["nested", "half a character", "not UTF-8"],
)
def test_a_parquet_files_metadata_is_read_with_care(tmp_path: Path, metadata: str | bytes, words: str) -> None:
    table = pq.read_table(_parquet(tmp_path)).replace_schema_metadata({"huggingface": metadata})
    for split in ("train", "val", "test"):
        pq.write_table(table, tmp_path / f"{split}.parquet")
    assert words in refused(lambda: opened("parquet", tmp_path))


@pytest.mark.parametrize(
    ("limit", "words"),
    [("MAX_ROWS", "1 rows, but at most 0 are read"), ("MAX_ROW_GROUP_BYTES", "but at most 0 are read at once")],
)
def test_a_parquet_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, words: str
) -> None:
    """A label that stands for a thousand million rows takes a few bytes in the file, and eight gigabytes in memory."""
    table = pq.read_table(_parquet(tmp_path))
    for split in ("train", "val", "test"):
        pq.write_table(table, tmp_path / f"{split}.parquet")
    opened("parquet", tmp_path)
    monkeypatch.setattr(parquet, limit, 0)
    assert words in refused(lambda: opened("parquet", tmp_path))


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
@pytest.mark.parametrize("spoil", [fifo, zeros])
def test_a_saved_datasets_files_are_files(tmp_path: Path, name: str, spoil: Callable[[Path], None]) -> None:
    root = save(tmp_path / "d")
    spoil(root / "train" / name)
    assert f"{root}/train/{name}: not what save_to_disk writes, or damaged: not a regular file" in refused(
        lambda: opened("datasets", root)
    )


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json"])
@pytest.mark.parametrize("content", [NESTED, "[]", "{}", "null", '{"_data_files": 3}', '{"_data_files": [3]}', "\xff"])
def test_a_saved_datasets_state_is_read_with_care(tmp_path: Path, name: str, content: str) -> None:
    root = save(tmp_path / "d")
    (root / "train" / name).write_text(content, "latin-1")
    try:
        opened("datasets", root)
    except DataError as error:
        assert str(root) in str(error)


@pytest.mark.parametrize("name", ["../test/data-00000-of-00001.arrow", "/etc/hostname", "..", "", "a\0b", 3])
def test_a_saved_datasets_state_names_no_file_elsewhere(tmp_path: Path, name: object) -> None:
    root = save(tmp_path / "d")
    state = json.loads((root / "train/state.json").read_text())
    state["_data_files"] = [{"filename": name}]
    (root / "train/state.json").write_text(json.dumps(state))
    assert "which must be in this folder" in refused(lambda: opened("datasets", root))


def test_what_may_not_be_read_is_said_to_be_forbidden() -> None:
    with unprivileged_folder() as root:
        for split in ("train", "val", "test"):
            write_image(root / split / "cat/a.png", 1)
            write_image(root / split / "dog/a.png", 1)
        corpus = opened("image_folder", root)
        (root / "train/cat/a.png").chmod(0)
        assert "train/cat/a.png: cannot be read: Permission denied" in refused(lambda: corpus.train.image(0))
        for place, words in (
            ("train/cat", "train/cat: cannot be listed: Permission denied"),
            ("train", "train: cannot be listed: Permission denied"),
        ):
            (root / place).chmod(0)
            assert words in refused(lambda: opened("image_folder", root))
            assert "Permission denied" in refused(corpus.check_images_are_there)
        (root / "train").chmod(0o700)
        (root / "train/cat").chmod(0o600)  # its names may be read, and nothing in it opened
        assert "Permission denied" in refused(corpus.digest)


@pytest.mark.parametrize(("kind", "names"), LISTS.items())
def test_lists_that_may_not_be_read_are_said_to_be_forbidden(kind: str, names: tuple[str, ...]) -> None:
    with unprivileged_folder() as root:
        (root / "anno").mkdir()
        for name in ("val.parquet", "test.parquet", names[0]):
            (root / name).write_bytes(b"x 0\n")
        (root / names[0]).chmod(0)
        if not kind.startswith("cifar"):  # whose size is wrong, which is said first
            assert "Permission denied" in refused(lambda: opened(kind, root))
        root.chmod(0)
        assert "Permission denied" in refused(lambda: opened(kind, root))
        assert "Permission denied" in refused(lambda: opened("datasets", root))
        root.chmod(0o700)


def test_a_lack_of_memory_is_not_called_damage(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise MemoryError

    corpus = opened("image_folder", tree)
    monkeypatch.setattr(Image.core, "new", refuse)
    monkeypatch.setattr(Image.core, "fill", refuse)
    with pytest.raises(BackendError, match=r"out of memory while reading .*a\.png: the image; lower models") as caught:
        corpus.check_images_decode()
    assert caught.value.exit_code == 6


def test_images_with_alpha_and_of_16_bits_are_counted(tree: Path) -> None:
    Image.new("RGBA", (2, 2), (9, 9, 9, 0)).save(tree / "train/cat/b.png")
    Image.fromarray(np.full((2, 2), 65535, dtype=np.uint16)).save(tree / "train/cat/c.png")
    corpus = opened("image_folder", tree, alpha_background="black")
    assert corpus.check_images_decode() == Checked(images=5, with_alpha=1, of_16_bits=1)
    assert [image.getpixel((0, 0)) for image in corpus.train.images([1, 2])] == [(0, 0, 0), 255]


def test_the_recipes_limit_of_pixels_is_the_readers(tree: Path) -> None:
    corpus = opened("image_folder", tree, max_pixels=95)  # they are 12 x 8
    assert "12 x 8 are 96 pixels, but at most 95 are read" in refused(lambda: corpus.train.image(0))
