"""The data sets. A new one is a file with an opener, a line in ``BENCHMARKS`` and a test."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from ltgc_local.corpora.base import Corpus, Split
from ltgc_local.errors import DataError

#: Benchmark -> "module:function" of its opener, imported when it is asked for.
BENCHMARKS = {
    "fashion_mnist_lt": "ltgc_local.corpora.fashion_mnist_lt:open_fashion_mnist_lt",
}


def open_corpus(benchmark: str, root: Path) -> Corpus:
    """Open a benchmark: read its labels and class names, check them, and leave the images in the files.

    Raises:
        DataError: no such benchmark, or its files are missing, damaged or not what the benchmark is.
    """
    if benchmark not in BENCHMARKS:
        raise DataError(f"no benchmark '{benchmark}'; there are {', '.join(BENCHMARKS)}")
    module, _, function = BENCHMARKS[benchmark].partition(":")
    opener: Callable[[Path], Corpus] = getattr(import_module(module), function)
    return opener(root)


__all__ = ["BENCHMARKS", "Corpus", "Split", "open_corpus"]
