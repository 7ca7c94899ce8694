"""One's own images: folders of classes, lists, tables and Parquet of several files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.datasets.lists import read_list
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data
from tests.datasets.mock_ups import write_image

TREE = {
    "train": ("tabby_cat/1.jpg", "tabby_cat/2.PNG", "dog/a b.jpg"),
    "val": ("tabby_cat/3.jpg",),
    "test": ("dog/4.jpg", "tabby_cat/5.jpg"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for split, names in TREE.items():
        for value, name in enumerate(names):
            write_image(tmp_path / split / name.replace(".PNG", ".png"), value)
    (tmp_path / "train/tabby_cat/2.png").rename(tmp_path / "train/tabby_cat/2.PNG")
    return tmp_path


def opened(benchmark: str, root: Path, **more: Any) -> Corpus:
    return open_corpus(Data(benchmark=benchmark, root=root, **more))  # type: ignore[arg-type]


def refused(benchmark: str, root: Path, **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(benchmark, root, **more)
    return str(caught.value).replace(str(root), "ROOT")


def test_folders_of_classes(tree: Path) -> None:
    (tree / "train/dog/notes.txt").write_text("no image")
    (tree / "train/.cache").mkdir()
    corpus = opened("image_folder", tree)
    assert corpus.class_names == ("dog", "tabby cat")
    assert list(corpus.train.keys) == ["train/dog/a b.jpg", "train/tabby_cat/1.jpg", "train/tabby_cat/2.PNG"]
    assert corpus.train.labels.tolist() == [0, 1, 1]
    assert corpus.class_counts() == {0: 1, 1: 2}
    assert [image.size for image in corpus.test.images([0, 1])] == [(12, 8)] * 2
    corpus.check_images_are_there()
    (tree / "test/dog/4.jpg").unlink()
    with pytest.raises(DataError, match=r"image_folder test: .*test/dog/4\.jpg not there, of 2 images"):
        corpus.check_images_are_there()


@pytest.mark.parametrize("name", ["valid", "validation", "dev"])
def test_other_names_of_val_are_known(tree: Path, name: str) -> None:
    (tree / "val").rename(tree / name)
    assert len(opened("image_folder", tree).val) == 1


def test_folders_that_do_not_fit_are_refused(tree: Path) -> None:
    (tree / "test/fox").mkdir()
    assert refused("image_folder", tree) == "ROOT/test: classes that ROOT/train does not have: fox"
    shutil.rmtree(tree / "test")
    assert refused("image_folder", tree) == (
        "ROOT/test: no such folder; image_folder is train/, val/ and test/ with a folder per class"
    )
    (tree / "test").mkdir()
    assert refused("image_folder", tree).startswith("ROOT/test: no images (.jpg, ")
    shutil.rmtree(tree / "train")
    (tree / "train").mkdir()
    assert refused("image_folder", tree).startswith("ROOT/train: no folders of classes")


def test_a_file_of_class_names_replaces_the_folders(tree: Path) -> None:
    names = tree / "names.txt"
    names.write_text("# a comment\nhound\nhouse cat\n\n")
    assert opened("image_folder", tree, class_names=names).class_names == ("hound", "house cat")
    names.write_text("hound\n")
    assert refused("image_folder", tree, class_names=names) == "ROOT/names.txt: 1 class names, but 2 folders of classes"
    names.write_text("\n")
    assert refused("image_folder", tree, class_names=names).startswith("ROOT/names.txt: no class names")
    names.write_text("hound\n\nhouse cat\n")
    assert "3 class names" in refused("image_folder", tree, class_names=names)


def write_lists(root: Path, **lines: str) -> None:
    ids = {"dog": 0, "tabby_cat": 1}
    for split, names in TREE.items():
        own = "".join(f"{split}/{name} {ids[name.split('/')[0]]}\n" for name in names)
        (root / f"{split}.txt").write_text(lines.get(split, own))
    (root / "class_names.txt").write_text("dog\ntabby cat\n")


def test_lists_in_the_root_or_elsewhere(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    write_lists(tree)
    here = opened("list_files", tree)
    elsewhere = tmp_path_factory.mktemp("lists")
    write_lists(elsewhere)
    there = opened("list_files", tree, lists=elsewhere)
    assert here.digest() == there.digest()
    assert here.train.labels.tolist() == [1, 1, 0]
    assert here.train.image(2).size == (12, 8)  # its name has a blank
    assert not here.val_is_test


def test_a_val_list_that_is_the_test_list_is_noticed(tree: Path) -> None:
    write_lists(tree, val="test/dog/4.jpg 0\ntest/tabby_cat/5.jpg 1\n")
    assert opened("list_files", tree).val_is_test


def test_lists_that_do_not_fit_are_refused(tree: Path) -> None:
    write_lists(tree, test="test/dog/4.jpg 2\n")
    assert refused("list_files", tree) == (
        "list_files test: label 2 of test/dog/4.jpg has no class name: expected 0 to 1 (1 such labels)"
    )
    write_lists(tree, test="train/dog/a b.jpg 0\n")
    assert refused("list_files", tree) == "ROOT: 1 images are in train and in test: train/dog/a b.jpg"
    write_lists(tree)
    (tree / "class_names.txt").unlink()
    assert refused("list_files", tree).startswith("ROOT/class_names.txt: not there")


NAME = st.text(st.characters(codec="utf-8", exclude_characters="\n\r", exclude_categories=("Cs",)), min_size=1)


@given(rows=st.lists(st.tuples(NAME.filter(lambda t: bool(t.strip())), st.integers(0, 999)), min_size=1, max_size=20))
def test_every_list_that_is_written_is_read_back(tmp_path_factory: Any, rows: list[tuple[str, int]]) -> None:
    path = tmp_path_factory.mktemp("lists") / "train.txt"
    unique = {key.strip().removeprefix("./"): label for key, label in rows}
    unique.pop("", None)
    path.write_text("".join(f"{key} {label}\n" for key, label in unique.items()), encoding="utf-8", newline="\n")
    if not unique:
        return
    keys, labels = read_list(path)
    assert (keys, labels.tolist()) == ([key.strip().removeprefix("./") for key in unique], list(unique.values()))


@given(content=st.binary(max_size=200))
def test_no_list_is_more_than_refused(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.mktemp("lists") / "train.txt"
    path.write_bytes(content)
    try:
        keys, labels = read_list(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert len(keys) == len(labels) == len(set(keys)) > 0


def write_tables(root: Path, header: str = "image,label", change: Callable[[str], str] = lambda row: row) -> None:
    for split, names in TREE.items():
        rows = "".join(change(f'"{split}/{name}",{name.split("/")[0]}') + "\n" for name in names)
        (root / f"{split}.csv").write_text(f"{header}\n{rows}")


def test_tables_with_class_names_as_labels(tree: Path) -> None:
    write_tables(tree)
    corpus = opened("csv", tree)
    assert corpus.class_names == ("dog", "tabby_cat")
    assert corpus.train.labels.tolist() == [1, 1, 0]
    assert corpus.train.image(2).size == (12, 8)
    write_tables(tree, header="file, species")
    same = opened("csv", tree, image_column="file", label_column="species")
    assert same.digest() == corpus.digest()


def test_tables_with_class_ids_need_names(tree: Path) -> None:
    write_tables(tree, change=lambda row: row.replace(",dog", ",0").replace(",tabby_cat", ",1"))
    assert refused("csv", tree).startswith("ROOT/train.csv: column 'label' has class ids and no names")
    (tree / "names.txt").write_text("dog\ncat\n")
    corpus = opened("csv", tree, class_names=tree / "names.txt")
    assert (corpus.class_names, corpus.train.labels.tolist()) == (("dog", "cat"), [1, 1, 0])


def test_tables_that_do_not_fit_are_refused(tree: Path) -> None:
    write_tables(tree, header="file,label")
    assert refused("csv", tree) == (
        "ROOT/train.csv: no column 'image'; its columns are file, label: name them by data.image_column and "
        "data.label_column"
    )
    write_tables(tree, change=lambda row: row.replace(",dog", ","))
    assert refused("csv", tree) == "ROOT/train.csv: 1 rows lack a path or a label: line 4"
    write_tables(tree)
    (tree / "test.csv").write_text("image,label\ntest/dog/4.jpg,fox\n")
    assert refused("csv", tree) == "ROOT/test.csv: 1 labels without a class: fox"
    (tree / "test.csv").write_text("")
    assert refused("csv", tree).startswith("ROOT/test.csv: no column 'image'; its columns are none")
    (tree / "test.csv").write_text('image,label\n"test/dog')
    assert refused("csv", tree).startswith("ROOT/test.csv: line ")
    (tree / "test.csv").unlink()
    assert refused("csv", tree).startswith("ROOT/test.csv: not there")


def test_parquet_in_shards_under_other_names_and_columns(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=["crane (bird)", "bag"])})
    (tmp_path / "data").mkdir()
    write_image(tmp_path / "a.png", 1)
    picture = (tmp_path / "a.png").read_bytes()
    for stem, rows in (("train", 5), ("validation", 2), ("test", 3)):
        whole = datasets.Dataset.from_dict(
            {"img": [{"bytes": picture, "path": None}] * rows, "fine": [i % 2 for i in range(rows)]}, features=features
        )
        for shard in range(2):
            part = whole.shard(2, shard, contiguous=True)
            part.to_parquet(tmp_path / f"data/{stem}-0000{shard}-of-00002.parquet", batch_size=2)
    corpus = opened("parquet", tmp_path, image_column="img", label_column="fine")
    assert corpus.class_names == ("crane (bird)", "bag")
    assert corpus.train.labels.tolist() == [0, 1, 0, 1, 0]
    assert [image.size for image in corpus.train.images([4, 0, 2])] == [(12, 8)] * 3
    assert len(corpus.val) == 2
    (tmp_path / "names.txt").write_text("heron\nsack\n")
    renamed = opened("parquet", tmp_path, image_column="img", label_column="fine", class_names=tmp_path / "names.txt")
    assert renamed.class_names == ("heron", "sack") and renamed.digest() != corpus.digest()
    assert refused("parquet", tmp_path).startswith("ROOT/data/train-00000-of-00002.parquet: no column 'image'")


def test_every_image_can_be_decoded_beforehand(tree: Path) -> None:
    assert opened("image_folder", tree).check_images_decode().images == 6
    for name in ("train/tabby_cat/1.jpg", "test/dog/4.jpg"):
        (tree / name).write_bytes((tree / name).read_bytes()[:40])
    (tree / "val/tabby_cat/3.jpg").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        opened("image_folder", tree).check_images_decode()
    first, *others = str(caught.value).splitlines()
    assert first == "image_folder: 3 images are missing or damaged:"
    assert [line.split(": the image does not decode")[0] for line in others] == [
        f"{tree}/train/tabby_cat/1.jpg", f"{tree}/val/tabby_cat/3.jpg", f"{tree}/test/dog/4.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/etc/x.png", "../x.png", "a/../../x.png"])
def test_a_list_that_leads_out_of_the_root_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "class_names.txt").write_text("cat\n")
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.txt").write_text(f"{split}/a.png 0\n" + (f"{path} 0\n" if split == "train" else ""))
    with pytest.raises(DataError, match="1 paths of train lead out of the root"):
        open_corpus(Data(benchmark="list_files", root=tmp_path))


def test_validation_images_that_are_partly_test_images_choose_nothing(tmp_path: Path) -> None:
    (tmp_path / "class_names.txt").write_text("cat\n")
    for split, lines in {"train": "t/a.png 0\n", "val": "./v/a.png 0\nv/b.png 0\n", "test": "v/a.png 0\n"}.items():
        (tmp_path / f"{split}.txt").write_text(lines)
    corpus = open_corpus(Data(benchmark="list_files", root=tmp_path))
    assert corpus.val_is_test
    with pytest.raises(DataError, match=r"validation images are its test images.*train\.select=last"):
        corpus.check_selection("best_val_all")


def test_a_class_folder_without_an_image_is_refused_by_name(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("L", (4, 4)).save(tmp_path / split / name / "a.png")
    (tmp_path / "train/owl").mkdir()
    with pytest.raises(DataError, match="train: 1 folders of classes without an image: owl; put images there"):
        open_corpus(Data(benchmark="image_folder", root=tmp_path))


def test_a_val_that_is_the_tests_folder_or_bytes_is_no_val_to_choose_by(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / split / "cat" / "a.png")
    (tmp_path / "val").symlink_to(tmp_path / "test")
    corpus = open_corpus(Data(benchmark="image_folder", root=tmp_path))
    assert corpus.val_is_test
    with pytest.raises(DataError, match="validation images are its test images"):
        corpus.check_selection("best_val_all")
    (tmp_path / "val").unlink()
    (tmp_path / "val").symlink_to(tmp_path / "train")
    with pytest.raises(DataError, match="is also the folder of another split"):
        open_corpus(Data(benchmark="image_folder", root=tmp_path))
    shipped = Path(__file__).resolve().parents[2] / "data/fashion_mnist_lt"
    assert not open_corpus(Data(benchmark="parquet", root=shipped)).val_is_test
    (tmp_path / "p").mkdir()
    for split, source in (("train", "train"), ("val", "val"), ("test", "val")):
        shutil.copyfile(shipped / f"{source}.parquet", tmp_path / "p" / f"{split}.parquet")
    assert open_corpus(Data(benchmark="parquet", root=tmp_path / "p")).val_is_test
