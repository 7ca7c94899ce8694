"""CIFAR as a long tail: the field's profile, cut from files of the official binary layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.datasets import open_corpus
from ltgc_local.datasets.cifar_lt import profile
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data

PIXELS = 3072


def write_records(path: Path, labels: np.ndarray, label_bytes: int) -> None:
    """Write records of the official layout; the first pixels hold the label and the row, the others are 0."""
    records = np.zeros((len(labels), label_bytes + PIXELS), dtype=np.uint8)
    records[:, label_bytes - 1] = labels
    records[:, label_bytes] = labels  # red of the first pixel
    records[:, label_bytes + 1024] = np.arange(len(labels)) % 251  # green
    records[:, label_bytes + 2048 + 33] = 200  # blue of the second row's second pixel
    path.parent.mkdir(parents=True, exist_ok=True)
    records.tofile(path)


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cifar10")
    shuffled = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
    for i in range(5):
        write_records(root / f"cifar-10-batches-bin/data_batch_{i + 1}.bin", shuffled[10_000 * i : 10_000 * (i + 1)], 1)
    write_records(root / "cifar-10-batches-bin/test_batch.bin", np.repeat(np.arange(10), 1000), 1)
    return root


@pytest.fixture(scope="module")
def cifar100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cifar100")
    write_records(root / "train.bin", np.tile(np.arange(100), 500), 2)
    write_records(root / "test.bin", np.tile(np.arange(100), 100), 2)
    return root


def data(root: Path, benchmark: str = "cifar10_lt", **more: Any) -> Data:
    return Data(benchmark=benchmark, root=root, **more)


@pytest.mark.parametrize(
    ("imbalance", "counts"),
    [  # the numbers of the papers that use the profile; 12,406 images at 100
        (100.0, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
        (10.0, [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500]),
        (1.0, [5000] * 10),
    ],
)
def test_the_profile_is_the_fields(imbalance: float, counts: list[int]) -> None:
    assert profile(10, 5000, imbalance) == counts


def test_cifar_100_at_100_has_10847_images() -> None:
    counts = profile(100, 500, 100.0)
    assert (sum(counts), counts[0], counts[-1]) == (10_847, 500, 5)


@given(st.integers(2, 200), st.integers(2, 6000), st.floats(1, 10_000))
def test_every_profile_falls_from_the_largest_to_no_less_than_one(classes: int, largest: int, imbalance: float) -> None:
    counts = profile(classes, largest, imbalance)
    assert counts[0] == largest and len(counts) == classes
    assert counts == sorted(counts, reverse=True) and counts[-1] >= 1
    assert counts[-1] in (max(1, int(largest / imbalance)), max(1, int(largest * (1 / imbalance))))


def test_cifar_10_opens_from_its_own_folder_or_the_one_above(cifar10: Path) -> None:
    above, own = open_corpus(data(cifar10)), open_corpus(data(cifar10 / "cifar-10-batches-bin"))
    assert above.digest() == own.digest()
    assert list(above.class_counts().values()) == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert above.class_names[0] == "airplane" and len(above.test) == 10_000


def test_cifar_100_takes_the_fine_labels(cifar100: Path) -> None:
    corpus = open_corpus(data(cifar100, "cifar100_lt"))
    assert (len(corpus.train), len(corpus.class_names), len(corpus.test)) == (10_847, 100, 10_000)
    assert corpus.class_names[66] == "raccoon"
    assert corpus.train.image(0).size == (32, 32)


def test_pixels_are_planes_of_red_green_and_blue(cifar10: Path) -> None:
    corpus = open_corpus(data(cifar10))
    for split in (corpus.train, corpus.val, corpus.test):
        for row in (0, len(split) // 2, len(split) - 1):
            picture, number = split.image(row), int(split.keys[row].split("/")[1])
            assert picture.mode == "RGB"
            assert picture.getpixel((0, 0)) == (int(split.labels[row]), number % 10_000 % 251, 0)
            assert picture.getpixel((1, 1)) == (0, 0, 200)
    with pytest.raises(IndexError):
        corpus.train.image(len(corpus.train))


def test_validation_images_are_official_training_images_that_do_not_train(cifar10: Path) -> None:
    corpus = open_corpus(data(cifar10, val_per_class=30))
    assert not set(corpus.train.keys) & set(corpus.val.keys)
    assert np.bincount(corpus.val.labels, minlength=10).tolist() == [0, *[30] * 9]
    smaller = open_corpus(data(cifar10, val_per_class=30, largest_class=4900))
    assert np.bincount(smaller.val.labels).tolist() == [30] * 10
    assert smaller.class_counts()[0] == 4900


def test_the_same_seed_keeps_the_same_images_and_another_seed_others(cifar10: Path) -> None:
    first, again, other = (open_corpus(data(cifar10, split_seed=seed)) for seed in (0, 0, 1))
    assert (first.train.keys, first.val.keys) == (again.train.keys, again.val.keys)
    assert first.train.keys != other.train.keys and first.digest() != other.digest()
    milder = open_corpus(data(cifar10, imbalance=10.0))
    assert set(first.train.keys) < set(milder.train.keys)  # a milder tail only adds images


def test_no_imbalance_leaves_no_validation_and_says_what_to_write(cifar10: Path) -> None:
    with pytest.raises(DataError, match="imbalance 1 leaves no image for validation; write 'largest_class: 4950'"):
        open_corpus(data(cifar10, imbalance=1.0))
    assert len(open_corpus(data(cifar10, imbalance=1.0, largest_class=4950)).val) == 500
    with pytest.raises(DataError, match=r"data\.largest_class is 6000, but a class has 5000 training images"):
        open_corpus(data(cifar10, largest_class=6000))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data_batch_1\.bin: not there; cifar10_lt is read from the official binary"):
        open_corpus(data(tmp_path))
    write_records(tmp_path / "train.bin", np.zeros(7, dtype=np.int64), 2)
    with pytest.raises(DataError, match=r"train\.bin: 21518 bytes, but the official file has 153700000; copy it again"):
        open_corpus(data(tmp_path, "cifar100_lt"))
    labels = np.zeros(10_000, dtype=np.int64)
    labels[5] = 11
    write_records(tmp_path / "data_batch_1.bin", labels, 1)
    with pytest.raises(DataError, match=r"image 5 has label 11, above 9"):
        open_corpus(data(tmp_path))
