"""How many images and classes the fixed benchmarks have, and the check that the lists on this machine have as many.

Counted from the published lists; TGN's README for the benchmarks of crops. Of iNaturalist 2018 only the totals are
checked: its groups and extremes are reported, but not published as lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ltgc_local.datasets.base import Corpus
from ltgc_local.datasets.groups import SHOTS, shot_of
from ltgc_local.errors import DataError

COPY_AGAIN = "copy the lists again (see data/README.md)"


@dataclass(frozen=True)
class Facts:
    """Numbers of classes and images; ``extremes`` are those of the largest and smallest class. None: not checked."""

    num_classes: int
    train: int
    val: int
    test: int
    test_per_class: int
    extremes: tuple[int, int] | None = None
    shots: tuple[int, int, int] | None = None  # classes that are many, medium, few


IMAGENET_LT = Facts(1000, 115_846, 20_000, 50_000, 50, (1280, 5), (385, 479, 136))
PLACES_LT = Facts(365, 62_500, 7_300, 36_500, 100, (4980, 5), (131, 163, 71))
INATURALIST18 = Facts(8142, 437_513, 24_426, 24_426, 3)
#: Benchmark of crops -> numbers of classes, training and test images.
CROPS = {"dior": (20, 68_025, 124_440), "fgsc23": (23, 3_256, 825), "dota": (15, 98_906, 28_853)}


def check_facts(corpus: Corpus, facts: Facts, where: str) -> None:
    """Refuse lists that are not the benchmark's, with everything in which they differ."""
    counts = list(corpus.class_counts().values())
    per_class = np.bincount(corpus.test.labels, minlength=facts.num_classes)
    pairs: list[tuple[str, int, int]] = [
        ("training images", len(corpus.train), facts.train),
        ("validation images", len(corpus.val), facts.val),
        ("test images", len(corpus.test), facts.test),
        ("classes", len(corpus.class_names), facts.num_classes),
        ("fewest test images of a class", int(per_class.min()), facts.test_per_class),
        ("most test images of a class", int(per_class.max()), facts.test_per_class),
    ]
    if facts.extremes is not None:
        pairs.append(("training images of the largest class", max(counts), facts.extremes[0]))
        pairs.append(("training images of the smallest class", min(counts), facts.extremes[1]))
    for shot, known in zip(SHOTS, facts.shots or (), strict=False):
        pairs.append((f"{shot}-shot classes", sum(shot_of(count) == shot for count in counts), known))
    check_numbers(corpus.name, where, pairs, COPY_AGAIN)


def check_numbers(benchmark: str, where: str, pairs: Iterable[tuple[str, int, int]], remedy: str) -> None:
    """Refuse numbers that differ from the benchmark's.

    Args:
        pairs: what is counted, how many there are, and how many the benchmark has.
    """
    wrong = [f"{what}: {found}, but {benchmark} has {known}" for what, found, known in pairs if found != known]
    if wrong:
        raise DataError(f"{where}: {'; '.join(wrong)}; {remedy}")
