"""ImageNet-LT, Places-LT and iNaturalist 2018 on mock-ups: the known counts, the layouts, and every problem."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.datasets.groups import SHOTS, num_extended, shot_of, tail_classes
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data
from tests.datasets.mock_ups import (
    MOCK_UPS,
    inaturalist_lines,
    write_imagenet_lt,
    write_inaturalist18,
    write_places_lt,
)

Folders = dict[str, tuple[Path, Path]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in MOCK_UPS.items()}


def data(benchmark: str, images: Path, lists: Path | None, **more: Any) -> Data:
    return Data(benchmark=benchmark, root=images, lists=lists, **more)


@pytest.fixture
def broken(folders: Folders, tmp_path: Path) -> Iterator[Any]:
    """A function (benchmark, list's name, change of its lines) -> the message with which the benchmark is refused."""

    def refuse(benchmark: str, name: str, change: Any) -> str:
        images, lists = folders[benchmark]
        own = tmp_path / "lists"
        shutil.copytree(lists, own)
        lines = (own / name).read_text().splitlines(keepends=True)
        (own / name).write_text("".join(change(lines)))
        with pytest.raises(DataError) as caught:
            open_corpus(data(benchmark, images, own))
        assert caught.value.exit_code == 4
        return str(caught.value).replace(str(own), "LISTS")

    yield refuse


@pytest.mark.parametrize(
    ("benchmark", "train", "val", "test", "shots", "extremes"),
    [
        ("imagenet_lt", 115_846, 20_000, 50_000, (385, 479, 136), (1280, 5)),
        ("places_lt", 62_500, 7_300, 36_500, (131, 163, 71), (4980, 5)),
        ("inaturalist18", 437_513, 24_426, 24_426, (842, 3701, 3599), (1000, 2)),
    ],
)
def test_the_known_counts(
    folders: Folders,
    benchmark: str,
    train: int,
    val: int,
    test: int,
    shots: tuple[int, ...],
    extremes: tuple[int, int],
) -> None:
    corpus = open_corpus(data(benchmark, *folders[benchmark]))
    counts = list(corpus.class_counts().values())
    assert (len(corpus.train), len(corpus.val), len(corpus.test)) == (train, val, test)
    assert tuple(sum(shot_of(n) == shot for n in counts) for shot in SHOTS) == shots
    assert (max(counts), min(counts)) == extremes
    assert corpus.val_is_test is (benchmark == "inaturalist18")
    assert len(set(map(str.casefold, corpus.class_names))) == len(counts)


@pytest.mark.parametrize(
    ("benchmark", "max_descriptions", "tail_below", "expected"),
    [
        ("imagenet_lt", 300, 20, 39_157),
        ("imagenet_lt", 300, 100, 156_147),
        ("places_lt", 800, 20, 55_996),
        ("places_lt", 800, 100, 176_762),
    ],
)
def test_the_images_to_draw_at_the_papers_k_y(
    folders: Folders, benchmark: str, max_descriptions: int, tail_below: int, expected: int
) -> None:
    counts = open_corpus(data(benchmark, *folders[benchmark])).class_counts()
    tail = tail_classes(counts, tail_below)
    assert sum(num_extended(counts[c], max_descriptions) for c in tail) == expected


@pytest.mark.parametrize("benchmark", MOCK_UPS)
def test_images_are_read_only_when_asked_for(folders: Folders, benchmark: str) -> None:
    corpus = open_corpus(data(benchmark, *folders[benchmark]))
    for split in (corpus.train, corpus.val, corpus.test):
        assert [image.size for image in split.images([0, len(split) // 2, len(split) - 1])] == [(12, 8)] * 3
    with pytest.raises(DataError, match=r"cannot be read: No such file"):
        corpus.train.image(2)
    with pytest.raises(IndexError):
        corpus.train.image(-1)


def test_what_is_missing_is_found_by_listing_folders(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = open_corpus(data("imagenet_lt", *folders["imagenet_lt"]))
    monkeypatch.setattr(os, "stat", lambda *_, **__: pytest.fail("a file was asked for its state"))
    with pytest.raises(DataError) as caught:
        corpus.check_images_are_there()
    monkeypatch.undo()
    root = folders["imagenet_lt"][0]
    train, val, test, advice = str(caught.value).splitlines()
    assert train == (
        f"imagenet_lt train: {root}/train/n01440764/n01440764_2.JPEG, {root}/train/n01440764/n01440764_3.JPEG, "
        f"{root}/train/n01440764/n01440764_4.JPEG and 115837 more not there, of 115846 images"
    )
    assert "and 19991 more not there, of 20000" in val and "and 49991 more not there, of 50000" in test
    assert "data.root" in advice


def test_opening_imagenet_lt_takes_seconds_and_no_image(folders: Folders, tmp_path: Path) -> None:
    start = time.monotonic()
    corpus = open_corpus(data("imagenet_lt", tmp_path, folders["imagenet_lt"][1]))  # a tree without any image
    assert time.monotonic() - start < 20  # about 1 s on an idle core
    assert len(corpus.train) == 115_846


def test_imagenets_flat_validation_folder_is_read_too(tmp_path: Path) -> None:
    images, lists = write_imagenet_lt(tmp_path, flat_val=True)
    corpus = open_corpus(data("imagenet_lt", images, lists))
    assert corpus.test.image(0).size == (12, 8)
    assert corpus.test.keys[0] == "val/n01440764/ILSVRC2012_val_00000001.JPEG"
    (images / "val").rename(images / "test")
    assert open_corpus(data("imagenet_lt", images, lists)).test.image(0).size == (12, 8)


@pytest.mark.parametrize("lists_256", [True, False])
@pytest.mark.parametrize("tree_256", [True, False])
def test_both_layouts_of_places_are_read_by_both_layouts_of_lists(
    tmp_path: Path, lists_256: bool, tree_256: bool
) -> None:
    corpus = open_corpus(data("places_lt", *write_places_lt(tmp_path, lists_256=lists_256, tree_256=tree_256)))
    assert corpus.train.keys[0].startswith("data_256/a/airfield/" if lists_256 else "train/airfield/")
    for split in (corpus.train, corpus.val, corpus.test):
        split.images([0, 1, len(split) - 1])
    assert corpus.class_names[8] == "outdoor apartment building"


def test_the_digest_follows_labels_names_and_images_and_not_the_place(folders: Folders, tmp_path: Path) -> None:
    images, lists = folders["places_lt"]
    digest = open_corpus(data("places_lt", images, lists)).digest()
    copy = tmp_path / "copy"
    shutil.copytree(images, copy)
    assert open_corpus(data("places_lt", copy, lists)).digest() == digest
    corpus = open_corpus(data("places_lt", copy, lists))
    corpus.train.files[0].write_bytes(b"another image")  # the first is in the sample
    assert open_corpus(data("places_lt", copy, lists)).digest() != digest
    names = tmp_path / "names.txt"
    names.write_text("".join(f"place {i}\n" for i in range(365)))
    assert open_corpus(data("places_lt", images, lists, class_names=names)).digest() != digest


def test_a_line_too_few_is_refused_with_every_figure(broken: Any) -> None:
    text = broken("imagenet_lt", "ImageNet_LT_train.txt", lambda lines: lines[1:])
    assert text == (
        "LISTS: training images: 115845, but imagenet_lt has 115846; copy the lists again (see data/README.md)"
    )


def test_other_groups_are_refused(broken: Any) -> None:
    def shrink(lines: list[str]) -> list[str]:  # of class 0, medium with 50, ten images stay; class 1 has 250
        kept = [line for line in lines if not line.endswith(" 0\n")]
        return [*lines[:10], *kept]

    text = broken("imagenet_lt", "ImageNet_LT_train.txt", shrink)
    assert "medium-shot classes: 478, but imagenet_lt has 479" in text
    assert "few-shot classes: 137, but imagenet_lt has 136" in text


def test_damaged_lines_are_named_and_counted(broken: Any) -> None:
    def damage(lines: list[str]) -> list[str]:
        return ["path,label\n", *lines[:3], "train/x.JPEG\n", "train/x.JPEG one\n", "train/x.JPEG -1\n", *lines[3:]]

    assert broken("imagenet_lt", "ImageNet_LT_train.txt", damage) == (
        "LISTS/ImageNet_LT_train.txt: 4 lines are not 'relative/path label': line 1 is 'path,label', "
        "line 5 is 'train/x.JPEG', line 6 is 'train/x.JPEG one' and 1 more"
    )


def test_images_listed_twice_or_for_training_and_test_are_refused(broken: Any) -> None:
    text = broken("imagenet_lt", "ImageNet_LT_train.txt", lambda lines: [*lines[:-1], lines[0]])
    assert text == ("LISTS/ImageNet_LT_train.txt: 1 paths are listed again: train/n01440764/n01440764_0.JPEG")


def test_a_training_image_in_val_is_refused(broken: Any) -> None:
    text = broken(
        "imagenet_lt", "ImageNet_LT_val.txt", lambda lines: ["train/n01440764/n01440764_0.JPEG 0\n", *lines[1:]]
    )
    assert text == "LISTS: 1 images are in train and in val: train/n01440764/n01440764_0.JPEG"


def test_labels_that_are_not_in_the_order_of_the_wordnet_ids_are_refused(broken: Any) -> None:
    def swap(lines: list[str]) -> list[str]:
        other = {"0": "1", "1": "0"}
        pairs = (line.split() for line in lines)
        return [f"{key} {other.get(label, label)}\n" for key, label in pairs]

    text = broken("imagenet_lt", "ImageNet_LT_test.txt", swap)
    assert text.startswith("LISTS/ImageNet_LT_test.txt: labels are not in the order of the WordNet ids")


def test_one_folder_with_two_labels_is_refused(broken: Any) -> None:
    text = broken("imagenet_lt", "ImageNet_LT_test.txt", lambda lines: [lines[0].replace(" 0\n", " 1\n"), *lines[1:]])
    assert text == (
        "LISTS/ImageNet_LT_test.txt: val/n01440764/ILSVRC2012_val_00000002.JPEG has label 0, but class 1 is n01440764"
    )


def test_a_category_of_places_with_another_label_is_refused(broken: Any) -> None:
    text = broken("places_lt", "Places_LT_train.txt", lambda lines: [lines[0].replace(" 0\n", " 7\n"), *lines[1:]])
    assert text == (
        "LISTS/Places_LT_train.txt: data_256/a/airfield/00000000.jpg has label 7, which is category amusement_park"
    )


def test_a_label_beyond_the_classes_is_refused(broken: Any) -> None:
    text = broken("places_lt", "Places_LT_test.txt", lambda lines: [lines[0].replace(" 0\n", " 365\n"), *lines[1:]])
    assert text.endswith("has label 365; Places365's are 0 to 364")


def test_missing_and_binary_lists_say_what_to_do(folders: Folders, tmp_path: Path) -> None:
    for benchmark, words in (
        ("imagenet_lt", "ImageNet_LT_train.txt: not there; data.lists names the folder of the lists"),
        ("places_lt", "Places_LT_train.txt: not there; data.lists names the folder of the lists"),
        ("inaturalist18", "neither iNaturalist18_train.txt nor train2018.json; data.lists names their folder"),
    ):
        with pytest.raises(DataError, match=words):
            open_corpus(data(benchmark, folders[benchmark][0], None))
    (tmp_path / "ImageNet_LT_train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8 text"):
        open_corpus(data("imagenet_lt", tmp_path, tmp_path))
    (tmp_path / "ImageNet_LT_train.txt").write_bytes(b"\n")
    with pytest.raises(DataError, match="lists no image"):
        open_corpus(data("imagenet_lt", tmp_path, tmp_path))


def test_a_corrupt_image_is_named(folders: Folders, tmp_path: Path) -> None:
    images, lists = tmp_path / "images", folders["imagenet_lt"][1]
    shutil.copytree(folders["imagenet_lt"][0], images)
    corpus = open_corpus(data("imagenet_lt", images, lists))
    for row in (0, 1):
        path = images / corpus.train.keys[row]
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError) as caught:
        corpus.train.images([0, 1, len(corpus.train) - 1])
    text = str(caught.value)
    assert text.startswith("2 images: ") and text.count("does not decode") == 2
    assert f"{images}/train/n01440764/n01440764_0.JPEG" in text


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """iNaturalist's official JSON files; class names are numbers there, as they were in the competition."""
    root = tmp_path_factory.mktemp("json")
    for split, lines in inaturalist_lines().items():
        value = {
            "images": [
                {"id": 10 + i, "file_name": key, "width": 800, "height": 600} for i, (key, _) in enumerate(lines)
            ],
            "annotations": [{"id": i, "image_id": 10 + i, "category_id": c} for i, (_, c) in enumerate(lines)][::-1],
            "categories": [{"id": i, "name": str(i), "supercategory": "Aves"} for i in range(8142)],
        }
        (root / f"{split}2018.json").write_text(json.dumps(value))
    return root


def test_inaturalist_is_read_straight_from_its_json(folders: Folders, annotated: Path) -> None:
    images, lists = folders["inaturalist18"]
    with pytest.raises(DataError, match="its names are numbers, as the competition hid them"):
        open_corpus(data("inaturalist18", images, annotated))
    rows = [{"id": i, "name": f"Species {i}", "supercategory": "Aves"} for i in range(8142)]
    (annotated / "categories.json").write_text(json.dumps(rows))
    corpus: Corpus = open_corpus(data("inaturalist18", images, annotated))
    by_lists = open_corpus(data("inaturalist18", images, lists))
    assert corpus.digest() == by_lists.digest()
    assert corpus.val_is_test and corpus.val.keys == corpus.test.keys
    assert corpus.test.name == "test"


def test_lists_are_made_from_the_json_by_a_script(folders: Folders, annotated: Path, tmp_path: Path) -> None:
    rows = [{"id": i, "name": f"Species {i}", "supercategory": "Aves"} for i in range(8142)]
    (annotated / "categories.json").write_text(json.dumps(rows))
    script = Path(__file__).parents[2] / "data/make_inaturalist18_lists.py"
    done = subprocess.run([sys.executable, script, annotated, tmp_path / "made"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    images, lists = folders["inaturalist18"]
    made = open_corpus(data("inaturalist18", images, tmp_path / "made"))
    assert made.digest() == open_corpus(data("inaturalist18", images, lists)).digest()
    refused = subprocess.run([sys.executable, script, tmp_path, tmp_path / "none"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr == f"{tmp_path}/train2018.json: cannot be read: No such file or directory\n"


def test_two_species_of_one_name_are_refused(folders: Folders, tmp_path: Path) -> None:
    images, lists = write_inaturalist18(tmp_path)
    names = [f"Species {i}" for i in range(8142)]
    names[7] = "species  3"
    (lists / "iNaturalist18_class_names.txt").write_text("\n".join(names))
    with pytest.raises(DataError, match="classes 3 and 7 are both named 'species  3'"):
        open_corpus(data("inaturalist18", images, lists))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "damaged JSON"),
        ("[]", "not iNaturalist's annotations"),
        ('{"images": [{"id": 1}], "annotations": []}', "not iNaturalist's annotations"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}',
            "1 images have no category, the first is a.jpg",
        ),
        ('{"images": [], "annotations": []}', "lists no image"),
    ],
)
def test_damaged_annotations_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "train2018.json").write_text(content)
    with pytest.raises(DataError, match=words):
        open_corpus(data("inaturalist18", tmp_path, None))
