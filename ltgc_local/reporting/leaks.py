"""The leak guard's section: how many images are equal or near duplicates, and the closest pairs to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ltgc_local.datasets import Corpus
from ltgc_local.recipe import Recipe
from ltgc_local.records import NearPair, parse_records
from ltgc_local.reporting.pictures import Picture, data_address
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import decode_png
from ltgc_local.runs.generated import read_generated, read_rows
from ltgc_local.runs.row_index import RowIndex

COMPARE = "leaks/compare"
NAMES = {"generated": "generated", "train": "training", "test": "test"}


@dataclass(frozen=True)
class LeakCount:
    """How many images of one group have a near duplicate in another; an entry of ``leaks/compare/counts-*.json``."""

    images: str
    among: str
    num_images: int
    num_among: int
    num_embedded: int
    num_embedded_among: int
    equal: int
    by_hash: int
    by_embedding: int
    in_all: int
    closest_hash_distance: int | None
    closest_cosine: float | None

    @property
    def groups(self) -> tuple[str, str]:
        return self.images, self.among

    def __add__(self, other: LeakCount) -> LeakCount:
        """Return the numbers of two parts of ``images``, each looked up among all of ``among``."""
        distances = [each.closest_hash_distance for each in (self, other) if each.closest_hash_distance is not None]
        cosines = [each.closest_cosine for each in (self, other) if each.closest_cosine is not None]
        return LeakCount(
            *self.groups,
            self.num_images + other.num_images,
            self.num_among,
            self.num_embedded + other.num_embedded,
            self.num_embedded_among,
            self.equal + other.equal,
            self.by_hash + other.by_hash,
            self.by_embedding + other.by_embedding,
            self.in_all + other.in_all,
            min(distances, default=None),
            max(cosines, default=None),
        )

    @property
    def title(self) -> str:
        return f"{NAMES[self.images].capitalize()} images with a duplicate among {NAMES[self.among]} images"


@dataclass(frozen=True)
class ShownPair:
    """Two images side by side, and how similar they are."""

    pictures: tuple[Picture, Picture]
    fact: str


@dataclass(frozen=True)
class ShownPairs:
    """The closest pairs of two groups, out of ``num_pairs``."""

    count: LeakCount
    pairs: tuple[ShownPair, ...]
    num_pairs: int


@dataclass(frozen=True)
class LeakGuard:
    """What the leak guard found."""

    groups: tuple[ShownPairs, ...]

    @property
    def is_clean(self) -> bool:
        return not any(group.count.in_all for group in self.groups)


def read_leaks(
    run: RunDirectory, steps: Sequence[str], recipe: Recipe, corpus: Corpus, generated: RowIndex
) -> LeakGuard | None:
    """Read the leak guard's results; None if the recipe leaves it out."""
    if COMPARE not in steps:
        return None
    counts: dict[tuple[str, str], LeakCount] = {}
    for count in (LeakCount(**each) for part in run.values(COMPARE, "counts") for each in part):
        known = counts.get(count.groups)
        counts[count.groups] = count if known is None else known + count
    found: Counter[tuple[str, str]] = Counter()
    nearest: dict[tuple[str, str], list[NearPair]] = {groups: [] for groups in counts}

    def keep(pairs: Iterable[NearPair]) -> None:
        for pair in pairs:
            groups = pair.group, pair.other_group
            found[groups] += 1
            nearest[groups].append(pair)
        for groups, all_pairs in nearest.items():
            nearest[groups] = sorted(all_pairs, key=lambda pair: pair.nearness)[: recipe.report.leak_pairs]

    for part in run.parsed(COMPARE, "pairs", lambda text: parse_records(NearPair, text.split("\n"))):
        keep(part)
    return LeakGuard(
        tuple(
            ShownPairs(count, tuple(_show(pair, corpus, generated) for pair in nearest[groups]), found[groups])
            for groups, count in counts.items()
        )
    )


def _show(pair: NearPair, corpus: Corpus, generated: RowIndex) -> ShownPair:
    left = _picture(pair.group, pair.image, pair.class_id, corpus, generated)
    right = _picture(pair.other_group, pair.other, pair.other_class_id, corpus, generated)
    near = "equal" if pair.equal else f"hashes differ in {pair.hash_distance} of 64 bits"
    return ShownPair((left, right), near if pair.cosine is None else f"{near} · cosine {pair.cosine:.3f}")


def _picture(group: str, key: str, class_id: int, corpus: Corpus, generated: RowIndex) -> Picture:
    if group == "generated":
        found = generated.find(np.array([[int(number) for number in key.split("_")]], np.int64))
        image = decode_png(read_generated(read_rows(found.items()))[0].image)
    else:
        part = corpus.test if group == "test" else corpus.train
        image = part.image(list(part.keys).index(key))
    name = corpus.class_names[class_id]
    alt = f"{NAMES[group].capitalize()} image {key} of the class {name}"
    return Picture(*data_address(image), alt, f"{NAMES[group]}: {name}", key)
