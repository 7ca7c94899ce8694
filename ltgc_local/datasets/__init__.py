"""The data sets. A new one is a file with an opener, a line in ``BENCHMARKS``, a word in the schema and a test."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ltgc_local.datasets.base import Corpus, Split
from ltgc_local.recipe.inputs import Data

#: Benchmark -> "module:function" of its opener, imported when it is needed.
BENCHMARKS = {
    "fashion_mnist_lt": "fashion_mnist_lt:open_fashion_mnist_lt",
    "imagenet_lt": "imagenet_lt:open_imagenet_lt",
    "places_lt": "places_lt:open_places_lt",
    "inaturalist18": "inaturalist18:open_inaturalist18",
    **dict.fromkeys(("cifar10_lt", "cifar100_lt"), "cifar_lt:open_cifar_lt"),
    **dict.fromkeys(("dior", "fgsc23", "dota", "anno_lists"), "anno_lists:open_anno_lists"),
    "image_folder": "own_images:open_image_folder",
    "list_files": "own_images:open_list_files",
    "csv": "own_images:open_csv",
    "parquet": "parquet:open_parquet",
    "datasets": "saved_dataset:open_saved_dataset",
}


def open_corpus(data: Data) -> Corpus:
    """Open a recipe's data: read and check labels and class names, and leave the images in their files.

    Raises:
        DataError: files are missing, damaged or not the benchmark's.
    """
    module, _, function = BENCHMARKS[data.benchmark].partition(":")
    opener: Callable[[Data], Corpus] = getattr(import_module(f"{__name__}.{module}"), function)
    return opener(data)


__all__ = ["BENCHMARKS", "Corpus", "Split", "open_corpus"]
