"""How many images each tail class gets, and from which real image each is generated. Pure: counts, recipe and seed."""

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
    """One image to generate: ``number`` counts from 0 within the class, ``source_row`` is a row of the train split."""

    class_id: int
    number: int
    source_row: int


@dataclass(frozen=True)
class Member(Record):
    """One image that trains the classifier."""

    origin: Literal["original", "generated"]
    class_id: int
    key: str  # of the train split, or "class_number_round" of a generated image
    source: str = ""  # key of the real image that a generated one was made from


def count_wanted(manifest: ClassManifest, settings: Merge) -> dict[int, int]:
    """Return class id -> number of images to generate, of the tail in the order of the manifest."""
    counts = [entry.num_train for entry in manifest.entries]
    goal = {"largest": max(counts), "median": int(np.median(counts)), "number": settings.images}
    return {
        entry.class_id: settings.images
        if settings.budget == "fixed"
        else max(0, goal[settings.budget] - entry.num_train)
        for entry in manifest.tail
    }


def list_wanted(corpus: Corpus, manifest: ClassManifest, recipe: TgnRecipe) -> list[Wanted]:
    """Return every image to generate, class by class: ``per_source`` of one real image, then of the next.

    The order of a class's real images is drawn by the recipe's seed; after the last one it begins again.
    """
    wanted = []
    for class_id, number in count_wanted(manifest, recipe.merge).items():
        rows = np.flatnonzero(corpus.train.labels == class_id)
        rows = np.random.default_rng(item_seed(recipe.seed, "sources", class_id)).permutation(rows)
        for i in range(number):
            wanted.append(Wanted(class_id, i, int(rows[i // recipe.merge.per_source % len(rows)])))
    return wanted
