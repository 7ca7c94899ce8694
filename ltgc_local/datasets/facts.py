"""What the fixed benchmarks are known to hold, and the check that the lists at hand are they.

Counted from the published lists; of iNaturalist 2018 only the totals: its groups and extremes are only reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.groups import SHOTS, shot_of
from ltgc_local.errors import DataError


@dataclass(frozen=True)
class Facts:
    """Numbers of images, of classes, of the largest and smallest class and of classes by group; None: not checked."""

    num_classes: int
    train: int
    val: int
    test: int
    test_per_class: int
    extremes: tuple[int, int] | None = None
    shots: tuple[int, int, int] | None = None  # many, medium, few


IMAGENET_LT = Facts(1000, 115_846, 20_000, 50_000, 50, (1280, 5), (385, 479, 136))
PLACES_LT = Facts(365, 62_500, 7_300, 36_500, 100, (4980, 5), (131, 163, 71))
INATURALIST18 = Facts(8142, 437_513, 24_426, 24_426, 3)


def check_facts(corpus: Corpus, facts: Facts, where: str) -> None:
    """Refuse lists that are not the benchmark's, with everything in which they differ.

    Args:
        where: the folder or files of the lists, for the message.

    Raises:
        DataError: what was found and what the benchmark has.
    """
    counts = np.array(list(corpus.class_counts().values()))
    per_class = np.bincount(corpus.test.labels, minlength=facts.num_classes)
    pairs: list[tuple[str, object, object]] = [
        ("training images", len(corpus.train), facts.train),
        ("validation images", len(corpus.val), facts.val),
        ("test images", len(corpus.test), facts.test),
        ("classes", len(corpus.class_names), facts.num_classes),
        ("fewest test images of a class", int(per_class.min()), facts.test_per_class),
        ("most test images of a class", int(per_class.max()), facts.test_per_class),
    ]
    if facts.extremes is not None:
        pairs += [
            ("training images of the largest class", int(counts.max()), facts.extremes[0]),
            ("training images of the smallest class", int(counts.min()), facts.extremes[1]),
        ]
    if facts.shots is not None:
        found = [sum(shot_of(int(n)) == shot for n in counts) for shot in SHOTS]
        pairs += [(f"{shot}-shot classes", n, m) for shot, n, m in zip(SHOTS, found, facts.shots, strict=True)]
    wrong = [f"{what}: {found}, but {corpus.name} has {known}" for what, found, known in pairs if found != known]
    if wrong:
        raise DataError(f"{where}: " + "; ".join(wrong) + "; copy the lists again (see data/README.md)")


@dataclass(frozen=True)
class CropFacts:
    """Numbers of classes and of images of a benchmark of crops (TGN's README)."""

    num_classes: int
    train: int
    test: int


CROPS = {
    "dior": CropFacts(20, 68_025, 124_440),
    "fgsc23": CropFacts(23, 3_256, 825),
    "dota": CropFacts(15, 98_906, 28_853),
}


def check_totals(
    name: str, facts: CropFacts, found: tuple[int, int], labels: Sequence[NDArray[np.int64]], where: str
) -> None:
    """Refuse lists that are not the benchmark's, with everything in which they differ.

    Args:
        found: numbers of training and test images.
        labels: of both.

    Raises:
        DataError: what was found and what the benchmark has.
    """
    classes = [len(np.unique(each)) for each in labels]
    pairs = [
        ("training images", found[0], facts.train),
        ("test images", found[1], facts.test),
        ("classes of training images", classes[0], facts.num_classes),
        ("classes of test images", classes[1], facts.num_classes),
        ("largest class id", max(int(each.max()) for each in labels), facts.num_classes - 1),
    ]
    wrong = [f"{what}: {number}, but {name} has {known}" for what, number, known in pairs if number != known]
    if wrong:
        raise DataError(
            f"{where}: " + "; ".join(wrong) + "; copy the lists again, or write 'benchmark: anno_lists' for crops of "
            "your own (see data/README.md)"
        )
