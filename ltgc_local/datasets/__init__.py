"""The data sets. A new one is a file with an opener, a line in ``BENCHMARKS``, a word in the schema and a test."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ltgc_local.datasets.base import Corpus, Split
from ltgc_local.recipe.schema import Data

#: Benchmark -> "module:function" of its opener, imported when it is asked for.
BENCHMARKS = {
    "fashion_mnist_lt": "ltgc_local.datasets.fashion_mnist_lt:open_fashion_mnist_lt",
    "imagenet_lt": "ltgc_local.datasets.imagenet_lt:open_imagenet_lt",
    "places_lt": "ltgc_local.datasets.places_lt:open_places_lt",
    "inaturalist18": "ltgc_local.datasets.inaturalist18:open_inaturalist18",
    "cifar10_lt": "ltgc_local.datasets.cifar_lt:open_cifar10_lt",
    "cifar100_lt": "ltgc_local.datasets.cifar_lt:open_cifar100_lt",
    "dior": "ltgc_local.datasets.anno_lists:open_dior",
    "fgsc23": "ltgc_local.datasets.anno_lists:open_fgsc23",
    "dota": "ltgc_local.datasets.anno_lists:open_dota",
    "anno_lists": "ltgc_local.datasets.anno_lists:open_anno_lists",
    "image_folder": "ltgc_local.datasets.image_folder:open_image_folder",
    "list_files": "ltgc_local.datasets.list_files:open_list_files",
    "csv": "ltgc_local.datasets.csv_table:open_csv",
    "parquet": "ltgc_local.datasets.parquet:open_parquet_folder",
    "datasets": "ltgc_local.datasets.saved_dataset:open_saved_dataset",
}


def open_corpus(data: Data) -> Corpus:
    """Open a recipe's data: read labels and class names, check them, and leave the images in the files.

    Raises:
        DataError: its files are missing, damaged or not what the benchmark is.
    """
    module, _, function = BENCHMARKS[data.benchmark].partition(":")
    opener: Callable[[Data], Corpus] = getattr(import_module(module), function)
    return opener(data)


__all__ = ["BENCHMARKS", "Corpus", "Split", "open_corpus"]
