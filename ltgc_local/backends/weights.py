"""Weights that are loaded whole or not at all, and adapters that train exactly what was meant."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.nn import Parameter

from ltgc_local.errors import BackendError, ModelError

NAMES_SHOWN = 5


def load_pretrained(kind: Any, folder: Path, **arguments: Any) -> Any:
    """Return ``kind.from_pretrained`` of a local folder's safetensors; ``arguments`` are more of its own.

    transformers and diffusers would start weights that are missing at random: here they are an error.

    Raises:
        ModelError: a weight of the architecture is not in the files, or has another shape.
    """
    local = {"local_files_only": True, "use_safetensors": True}
    loading = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, found = kind.from_pretrained(folder, **local, **loading, **arguments)
    wrong = sorted(found["missing_keys"]) + sorted(str(key[0]) for key in found["mismatched_keys"])
    if wrong:
        raise ModelError(
            f"{folder}: {len(wrong)} weights of {type(model).__name__} are not in its files or have another shape, "
            f"such as {', '.join(wrong[:3])}; the folder is incomplete or config.json is another model's: copy it again"
        )
    return model


def check_gradients(block: str, parameters: Iterable[tuple[str, Parameter, bool]], tower: str) -> None:
    """Check after a backward pass that the parameters that are meant to train have gradients, and nothing else trains.

    Args:
        block: of the recipe, for the message.
        parameters: name, parameter, and whether it is meant to train.
        tower: what should hold a LoRA adapter.

    Raises:
        BackendError: names the parameters that are wrong.
    """
    problems: dict[str, list[str]] = {}
    has_adapter = False
    for name, parameter, is_meant in parameters:
        has_adapter |= is_meant and "lora_" in name
        if is_meant and not parameter.requires_grad:
            problems.setdefault("should train but is frozen", []).append(name)
        elif is_meant and parameter.grad is None:
            problems.setdefault("should train but has no gradient", []).append(name)
        elif not is_meant and (parameter.requires_grad or parameter.grad is not None):
            problems.setdefault("should not train but is trainable", []).append(name)
    if not has_adapter:
        problems["no adapter in"] = [tower]
    if problems:
        found = (f"{what}: {', '.join(names[:NAMES_SHOWN])} ({len(names)})" for what, names in problems.items())
        raise BackendError(f"{block}: unexpected trainable parameters. {'; '.join(found)}")
