"""Names of backends -> import strings, resolved when a model is loaded and not before."""

from __future__ import annotations

import importlib
from pathlib import Path
from textwrap import shorten
from typing import Any

from ltgc_local.backends.protocols import LoadSettings
from ltgc_local.errors import BackendError, LtgcError, ModelError
from ltgc_local.out_of_memory import is_out_of_memory

#: (role, backend) -> "module:class"; the class is called with (folder, LoadSettings).
BACKENDS: dict[tuple[str, str], str] = {
    ("vlm", "vllm"): "ltgc_local.backends.text.vllm_vlm:VllmVlm",
    ("llm", "vllm"): "ltgc_local.backends.text.vllm_llm:VllmLlm",
    ("vlm", "transformers"): "ltgc_local.backends.text.transformers_vlm:TransformersVlm",
    ("llm", "transformers"): "ltgc_local.backends.text.transformers_llm:TransformersLlm",
    ("t2i", "diffusers"): "ltgc_local.backends.sdxl.engine:DiffusersSdxl",
    ("clip", "open_clip"): "ltgc_local.backends.clip.open_clip_vit:OpenClipVit",
    ("clip", "transformers_clip"): "ltgc_local.backends.clip.transformers_clip:TransformersClip",
}

#: Role of a model that memory does not hold -> what to set; else a smaller number format.
LESS_MEMORY = {"vlm": "models.quantization=4bit", "llm": "models.quantization=4bit"}

#: Backends whose text models hold decoding to a JSON schema; of the others free text is asked, unless a recipe says so.
CONSTRAINED_DECODING = frozenset({"vllm"})


def load_model(role: str, backend: str, folder: Path, settings: LoadSettings) -> Any:
    """Load a model of a role with a backend from a local folder.

    Raises:
        ModelError: no such backend for the role, or the folder does not hold such a model.
        BackendError: memory does not suffice.
    """
    if (role, backend) not in BACKENDS:
        known = ", ".join(name for known_role, name in BACKENDS if known_role == role)
        raise ModelError(f"backend {backend!r} has no {role}; known for {role}: {known}")
    module, _, name = BACKENDS[role, backend].partition(":")
    try:
        return getattr(importlib.import_module(module), name)(folder, settings)
    except LtgcError:
        raise
    except Exception as problem:  # the libraries raise every kind for a folder that is damaged or another model's
        if is_out_of_memory(problem):
            raise BackendError(
                f"{folder}: out of memory while it is loaded as a {role} by {backend}; end what else uses the memory, "
                f"or type --set {LESS_MEMORY.get(role, 'models.dtype=bfloat16')}"
            ) from problem
        words = shorten(str(problem), 400, placeholder=" …")
        raise ModelError(f"{folder}: cannot be loaded as a {role} by {backend}: {words}") from problem
