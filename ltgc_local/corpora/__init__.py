"""The data sets. A new one is a file with an opener, a line in ``BENCHMARKS``, a word in the schema and a test."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ltgc_local.corpora.base import Corpus, Split
from ltgc_local.recipe.schema import Data

#: Benchmark -> "module:function" of its opener, imported when it is asked for.
BENCHMARKS = {
    "fashion_mnist_lt": "ltgc_local.corpora.fashion_mnist_lt:open_fashion_mnist_lt",
    "imagenet_lt": "ltgc_local.corpora.imagenet_lt:open_imagenet_lt",
    "places_lt": "ltgc_local.corpora.places_lt:open_places_lt",
    "inaturalist18": "ltgc_local.corpora.inaturalist18:open_inaturalist18",
    "cifar10_lt": "ltgc_local.corpora.cifar_lt:open_cifar10_lt",
    "cifar100_lt": "ltgc_local.corpora.cifar_lt:open_cifar100_lt",
    "dior": "ltgc_local.corpora.anno_lists:open_dior",
    "fgsc23": "ltgc_local.corpora.anno_lists:open_fgsc23",
    "dota": "ltgc_local.corpora.anno_lists:open_dota",
    "anno_lists": "ltgc_local.corpora.anno_lists:open_anno_lists",
    "image_folder": "ltgc_local.corpora.image_folder:open_image_folder",
    "list_files": "ltgc_local.corpora.list_files:open_list_files",
    "csv": "ltgc_local.corpora.csv_table:open_csv",
    "parquet": "ltgc_local.corpora.parquet:open_parquet_folder",
    "datasets": "ltgc_local.corpora.saved_dataset:open_saved_dataset",
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
