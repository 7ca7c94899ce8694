"""The leak guard's section: how many images are equal or near duplicates, and the closest pairs to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.datasets import Corpus
from ltgc_local.recipe import Recipe
from ltgc_local.records import NearPair
from ltgc_local.reporting.pictures import Picture, data_address
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import decode_png
from ltgc_local.runs.generated import GeneratedRow, read_generated

COMPARE = "leaks/compare"
NAMES = {"generated": "generated", "train": "training", "test": "test"}


@dataclass(frozen=True)
class LeakCount:
    """How many images of one group have a near duplicate in another; an entry of ``leaks/compare/counts.json``."""

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
    run: RunDirectory, steps: Sequence[str], recipe: Recipe, corpus: Corpus, generated: Sequence[GeneratedRow]
) -> LeakGuard | None:
    """Read the leak guard's results; None if the recipe leaves it out."""
    if COMPARE not in steps:
        return None
    pairs = run.records(COMPARE, "pairs", NearPair)
    rows = {"_".join(map(str, row.key)): row for row in generated}
    groups = []
    for count in (LeakCount(**each) for each in run.value(COMPARE, "counts")):
        found = [pair for pair in pairs if (pair.group, pair.other_group) == (count.images, count.among)]
        shown = tuple(_show(pair, corpus, rows) for pair in found[: recipe.report.leak_pairs])
        groups.append(ShownPairs(count, shown, len(found)))
    return LeakGuard(tuple(groups))


def _show(pair: NearPair, corpus: Corpus, rows: Mapping[str, GeneratedRow]) -> ShownPair:
    left = _picture(pair.group, pair.image, pair.class_id, corpus, rows)
    right = _picture(pair.other_group, pair.other, pair.other_class_id, corpus, rows)
    near = "equal" if pair.equal else f"hashes differ in {pair.hash_distance} of 64 bits"
    return ShownPair((left, right), near if pair.cosine is None else f"{near} · cosine {pair.cosine:.3f}")


def _picture(group: str, key: str, class_id: int, corpus: Corpus, rows: Mapping[str, GeneratedRow]) -> Picture:
    if group == "generated":
        image = decode_png(read_generated([rows[key]])[0].image)
    else:
        part = corpus.test if group == "test" else corpus.train
        image = part.image(list(part.keys).index(key))
    name = corpus.class_names[class_id]
    alt = f"{NAMES[group].capitalize()} image {key} of the class {name}"
    return Picture(*data_address(image), alt, f"{NAMES[group]}: {name}", key)
