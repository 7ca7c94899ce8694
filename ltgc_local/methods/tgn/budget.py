"""How many images each tail class gets, and the real image that each is generated from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ltgc_local.datasets import Corpus
from ltgc_local.methods.tgn.classes import ClassManifest
from ltgc_local.recipe import TgnRecipe
from ltgc_local.recipe.tgn import Merge
from ltgc_local.records import Record
from ltgc_local.seeding import item_seed


@dataclass(frozen=True)
class Wanted:
    """One image to generate: the ``number``-th of its class, from row ``source_row`` of the train split."""

    class_id: int
    number: int
    source_row: int


@dataclass(frozen=True)
class Member(Record):
    """One image that trains the classifier."""

    origin: Literal["original", "generated"]
    class_id: int
    key: str  # of the train split, or "class_number_round" for a generated image
    source: str = ""  # key of the real image behind a generated one


def count_wanted(manifest: ClassManifest, settings: Merge) -> dict[int, int]:
    """Return class id -> number of images to generate, for the tail in the order of the manifest."""
    counts = [entry.num_train for entry in manifest.entries]
    goal = {"largest": max(counts), "median": int(np.median(counts)), "number": settings.images}
    return {
        entry.class_id: settings.images
        if settings.budget == "fixed"
        else max(0, goal[settings.budget] - entry.num_train)
        for entry in manifest.tail
    }


def list_wanted(corpus: Corpus, manifest: ClassManifest, recipe: TgnRecipe) -> list[Wanted]:
    """Return every image to generate, class by class: ``per_source`` from one real image, then from the next.

    A class's real images are shuffled by the recipe's seed; after the last one the first follows again.
    """
    wanted, per_source = [], recipe.merge.per_source
    for class_id, number in count_wanted(manifest, recipe.merge).items():
        rows = np.flatnonzero(corpus.train.labels == class_id)
        rows = np.random.default_rng(item_seed(recipe.seed, "sources", class_id)).permutation(rows)
        wanted += [Wanted(class_id, i, int(rows[i // per_source % len(rows)])) for i in range(number)]
    return wanted
