"""LTGC as the core sees it."""

from __future__ import annotations

from ltgc_local.datasets import Corpus
from ltgc_local.datasets.groups import num_extended, tail_classes
from ltgc_local.methods.base import Method
from ltgc_local.methods.ltgc.comparison import LtgcComparison
from ltgc_local.methods.ltgc.plan import plan_ltgc
from ltgc_local.methods.ltgc.report import LtgcReport
from ltgc_local.recipe import LtgcRecipe


def find_tail(corpus: Corpus, recipe: LtgcRecipe) -> list[int]:
    """Return the classes with fewer than ``describe.tail_below`` training images."""
    return tail_classes(corpus.class_counts(), recipe.describe.tail_below)


def count_budget(corpus: Corpus, recipe: LtgcRecipe) -> dict[int, int]:
    """Return N_y = K_y - M_y of each tail class."""
    counts, described = corpus.class_counts(), recipe.describe.max_images_per_class
    return {
        class_id: num_extended(min(counts[class_id], described), recipe.extend.max_descriptions)
        for class_id in find_tail(corpus, recipe)
    }


METHOD = Method("ltgc", plan_ltgc, find_tail, count_budget, LtgcReport(), LtgcComparison())
