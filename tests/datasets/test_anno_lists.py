"""DIOR, FGSC-23, DOTA and folders of one's own in the layout of TGN's release, on mock-ups of the true tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.datasets.base import Checked
from ltgc_local.errors import DataError
from ltgc_local.methods.tgn.classes import build_manifest
from ltgc_local.recipe.inputs import Data
from ltgc_local.recipe.tgn import Split
from tests.datasets.mock_ups import CROP_MOCK_UPS, crop_counts, write_image, write_list

Folders = dict[str, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return {name: write(tmp_path_factory.mktemp(name))[0] for name, write in CROP_MOCK_UPS.items()}


def open_crops(benchmark: str, root: Path, **more: Any) -> Corpus:
    return open_corpus(Data(benchmark=benchmark, root=root, **more))


@pytest.mark.parametrize(
    ("benchmark", "train", "test", "num_classes"),
    [("dior", 68_025, 124_440, 20), ("fgsc23", 3_256, 825, 23), ("dota", 98_906, 28_853, 15)],
)
def test_the_known_totals_with_and_without_validation_images(
    folders: Folders, benchmark: str, train: int, test: int, num_classes: int
) -> None:
    corpus = open_crops(benchmark, folders[benchmark])
    assert len(corpus.train) + len(corpus.val) == train
    assert (len(corpus.test), len(corpus.class_names), corpus.val_is_test) == (test, num_classes, False)
    assert 0.03 * train < len(corpus.val) < 0.07 * train
    assert not set(corpus.val.keys) & set(corpus.train.keys)
    whole = open_crops(benchmark, folders[benchmark], val_percent=0.0)
    assert (len(whole.train), len(whole.val), whole.val_is_test) == (train, test, True)


def test_every_class_keeps_images_on_both_sides_and_the_datas_seed_decides_which(folders: Folders) -> None:
    one, again, other = (open_crops("fgsc23", folders["fgsc23"], split_seed=seed) for seed in (0, 0, 1))
    assert set(one.val.labels.tolist()) == set(one.train.labels.tolist()) == set(range(23))
    assert one.val.keys == again.val.keys != other.val.keys
    assert np.bincount(one.val.labels).tolist() == np.bincount(other.val.labels).tolist()


def test_diors_names_are_in_the_order_that_its_counts_prove(folders: Folders) -> None:
    # tgn.md: published test counts, sorted, give the release's hard-coded lists: 8 head and 12 tail classes.
    corpus = open_crops("dior", folders["dior"])
    manifest = build_manifest(corpus.class_names, corpus.class_counts(), Split())
    assert {entry.class_name for entry in manifest.head} == {
        "ship", "vehicle", "tennis court", "storage tank", "baseball field", "harbor", "windmill", "airplane",
    }  # fmt: skip
    assert {entry.class_id for entry in manifest.tail} == {1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17}
    by_test = sorted(range(20), key=lambda c: -crop_counts("dior")[1][c])
    assert by_test[:8] == [13, 18, 15, 0, 16, 2, 11, 19]
    assert by_test[8:] == [4, 3, 10, 12, 7, 5, 8, 14, 1, 9, 6, 17]


def test_keys_are_paths_in_the_tree_and_images_are_read_when_asked_for(folders: Folders) -> None:
    corpus = open_crops("dota", folders["dota"])
    assert corpus.test.keys[0].startswith("test/0/") and corpus.train.keys[0].startswith("train/0/")
    assert corpus.test.image(0).size == (12, 8)
    with pytest.raises(DataError, match="cannot be read"):
        corpus.test.image(3)


def own_folder(root: Path, classes: tuple[str, ...] = ("boat", "crane_ship")) -> Path:
    for split, number in (("train", 4), ("test", 2)):
        lines = [(f"{name}/{name}_{i}.jpg", c) for c, name in enumerate(classes) for i in range(number)]
        write_list(root / "anno" / f"own_{split}.txt", lines)
        for row, (key, _) in enumerate(lines):
            write_image(root / split / key, row)
    return root


def test_a_folder_of_ones_own_is_named_by_its_folders_or_by_a_list(tmp_path: Path) -> None:
    root = own_folder(tmp_path)
    corpus = open_crops("anno_lists", root)
    assert corpus.class_names == ("boat", "crane ship")
    assert (len(corpus.train), len(corpus.val), len(corpus.test)) == (6, 2, 4)
    assert corpus.check_images_decode() == Checked(images=12, with_alpha=0, of_16_bits=0)
    (root / "anno/class_names.txt").write_text("Boat\nFloating crane\n")
    assert open_crops("anno_lists", root).class_names == ("Boat", "Floating crane")


def test_numbers_for_folders_need_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folders are numbers.*class_names\.txt"):
        open_crops("anno_lists", own_folder(tmp_path, ("0", "1")))


Break = Callable[[Path], None]


def _drop_a_line(root: Path) -> None:
    path = root / "anno/FGSC-23_train.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def _wrong_label(root: Path) -> None:
    path = root / "anno/FGSC-23_test.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0].replace(" 0\n", " 1\n"), *lines[1:]]))


def _two_lists(root: Path) -> None:
    (root / "anno/other_train.txt").write_text("0/a.jpg 0\n")


def _no_list(root: Path) -> None:
    (root / "anno/FGSC-23_test.txt").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_a_line, "training images: 3255, but fgsc23 has 3256.*'benchmark: anno_lists' for crops of your own"),
        (_wrong_label, "has label 0, but class 1 is 0"),
        (_two_lists, "expected one list of train images.*found FGSC-23_train.txt, other_train.txt"),
        (_no_list, "expected one list of test images, such as DIOR_test.txt; there is none"),
    ],
)
def test_lists_that_are_not_the_benchmarks_are_refused(tmp_path: Path, change: Break, message: str) -> None:
    root, _ = CROP_MOCK_UPS["fgsc23"](tmp_path)
    change(root)
    with pytest.raises(DataError, match=message) as caught:
        open_crops("fgsc23", root)
    assert caught.value.exit_code == 4
