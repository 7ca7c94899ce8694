"""The methods that recipes may name."""

from __future__ import annotations

from importlib import import_module

from ltgc_local.methods.base import Method
from ltgc_local.recipe import Recipe

#: The folders of the methods, each with a ``METHOD`` in its ``method.py``. A third one is a folder and a line here.
FOLDERS = (
    "ltgc",
    "tgn",
)
METHODS: dict[str, Method] = {name: import_module(f"ltgc_local.methods.{name}.method").METHOD for name in FOLDERS}
#: What ``compare_runs`` takes.
COMPARISONS = {name: method.comparison for name, method in METHODS.items()}


def method_of(recipe: Recipe) -> Method:
    """Return the method that a recipe runs."""
    return METHODS[recipe.method]
