"""Make rare classes recognisable by generating training images for them, offline.

    recipe = ltgc_local.load_recipe("recipes/quickstart.yaml", {"train.lr": 2e-3})
    result = ltgc_local.run(recipe, out="runs/a", until="generated")
    ltgc_local.open_run("runs/a").history("train/ltgc")

Everything here is imported when it is first used, so ``import ltgc_local`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltgc_local.pipeline.api import compare, load_recipe, open_run, plan, run
    from ltgc_local.runs.reader import RunReader

__version__ = "0.1.0"
__all__ = ["RunReader", "__version__", "compare", "load_recipe", "open_run", "plan", "run"]

_HOMES = {
    **dict.fromkeys(("compare", "load_recipe", "open_run", "plan", "run"), "ltgc_local.pipeline.api"),
    "RunReader": "ltgc_local.runs.reader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ltgc_local' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
