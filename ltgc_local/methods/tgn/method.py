"""TGN as the core sees it, with its diffusion variant."""

from __future__ import annotations

from ltgc_local.datasets import Corpus
from ltgc_local.methods.base import Method
from ltgc_local.methods.tgn.budget import count_wanted
from ltgc_local.methods.tgn.classes import ClassManifest, build_manifest
from ltgc_local.methods.tgn.comparison import TgnComparison
from ltgc_local.methods.tgn.plan import plan_tgn
from ltgc_local.methods.tgn.report import TgnReport
from ltgc_local.recipe import TgnRecipe


def find_tail(corpus: Corpus, recipe: TgnRecipe) -> list[int]:
    """Return the classes that rank below the head, by training images."""
    return sorted(entry.class_id for entry in _manifest(corpus, recipe).tail)


def count_budget(corpus: Corpus, recipe: TgnRecipe) -> dict[int, int]:
    """Return how many images ``merge`` wants for each tail class."""
    return count_wanted(_manifest(corpus, recipe), recipe.merge)


def list_untrained(recipe: TgnRecipe) -> tuple[str, ...]:
    """Return the architectures that start from random weights because no card names any."""
    if recipe.models.backbone is not None:
        return ()
    return tuple(dict.fromkeys((recipe.kmdn.architecture, recipe.classifier.architecture)))


def _manifest(corpus: Corpus, recipe: TgnRecipe) -> ClassManifest:
    return build_manifest(corpus.class_names, corpus.class_counts(), recipe.split)


METHOD = Method("tgn", plan_tgn, find_tail, count_budget, TgnReport(), TgnComparison(), list_untrained)
