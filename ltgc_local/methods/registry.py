"""The methods that recipes may name. A third one is a folder and a line here."""

from __future__ import annotations

from ltgc_local.methods.base import Method
from ltgc_local.methods.ltgc.method import LTGC
from ltgc_local.methods.tgn.method import TGN
from ltgc_local.recipe import Recipe

METHODS: dict[str, Method] = {method.name: method for method in (LTGC, TGN)}
#: What ``compare_runs`` takes.
COMPARISONS = {name: method.comparison for name, method in METHODS.items()}


def method_of(recipe: Recipe) -> Method:
    """Return the method that a recipe runs."""
    return METHODS[recipe.method]
