"""Fashion-MNIST as a long tail: the shipped data, made by data/make_fashion_mnist_lt.py."""

from __future__ import annotations

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.parquet import open_parquet
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data

MADE_BY = "python data/make_fashion_mnist_lt.py"
NUM_IMAGES = {"train": 2480, "val": 1000, "test": 10000}
#: n_i = round(1000 * 0.01^(i/9)), i = 0..9, from the largest class to the smallest.
TRAIN_COUNTS = (1000, 599, 359, 215, 129, 77, 46, 28, 17, 10)


def open_fashion_mnist_lt(data: Data) -> Corpus:
    """Open the shipped benchmark and check its numbers of images."""
    corpus = open_parquet(data, "fashion_mnist_lt", MADE_BY)
    for split in (corpus.train, corpus.val, corpus.test):
        if len(split) != NUM_IMAGES[split.name]:
            raise DataError(
                f"{split.files[0]}: {len(split)} images, but {corpus.name} has {NUM_IMAGES[split.name]}; "
                f"type: {MADE_BY}"
            )
    counts = tuple(sorted(corpus.class_counts().values(), reverse=True))
    if counts != TRAIN_COUNTS:
        raise DataError(
            f"{corpus.train.files[0]}: images per class are {', '.join(map(str, counts))}, "
            f"but {corpus.name} has {', '.join(map(str, TRAIN_COUNTS))}; type: {MADE_BY}"
        )
    return corpus
