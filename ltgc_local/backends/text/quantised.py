"""Folders whose weights are quantised already (AWQ, GPTQ, FP8 …), and which of them a backend can load."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from ltgc_local.errors import BackendError
from ltgc_local.model_store import read_json

#: config.json's quant_method -> the package that transformers needs for it; None: it needs none but a GPU.
PACKAGES: dict[str, str | None] = {
    "awq": "gptqmodel",
    "gptq": "gptqmodel",
    "fp8": None,
    "compressed-tensors": "compressed_tensors",
    "bitsandbytes": "bitsandbytes",
}
#: Weights that share one scale in bitsandbytes' 4 bit; on a CPU a row must be whole blocks of them.
BLOCK = 64
#: What transformers loads without a GPU.
ON_CPU = frozenset({"compressed-tensors", "bitsandbytes"})


def quantised_by(folder: Path) -> str | None:
    """Return config.json's quant_method in lower case, or None where the weights are whole.

    Raises:
        ModelError: config.json is no JSON.
    """
    if not (folder / "config.json").is_file():
        return None
    config = read_json(folder / "config.json")
    settings = config.get("quantization_config") or config.get("text_config", {}).get("quantization_config")
    return str(settings.get("quant_method", "unknown")).lower() if settings else None


def check_quantisation(folder: Path, wanted: str, device: str, unset: str = "models.quantization=none") -> None:
    """Refuse what transformers would fail on much later, or would do slowly without a word.

    Args:
        wanted: ``models.quantization``.
        unset: what to set where nothing should be quantised.

    Raises:
        BackendError: the folder is quantised and the recipe asks for more; a package or a GPU is missing.
    """
    method = quantised_by(folder)
    if method is None:
        return
    if wanted != "none":
        raise BackendError(f"{folder}: its weights are quantised by {method} already; type --set {unset}")
    if device == "cpu" and method not in ON_CPU:
        raise BackendError(
            f"{folder}: transformers loads {method} weights on a GPU only; name the card of a folder of whole weights"
        )
    package = PACKAGES.get(method)
    if package is not None and importlib.util.find_spec(package) is None:
        raise BackendError(
            f"{folder}: transformers needs the package {package} for {method} weights; type: pip install {package}, or "
            "run it on vLLM (--set models.backend=vllm), which reads such folders as they are"
        )


def check_widths_for_4bit(folder: Path, model: Any) -> None:
    """Refuse 4 bit on a CPU where bitsandbytes would fail at the first token.

    Raises:
        BackendError: a layer's input is no multiple of 64 wide.
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "Linear4bit" and module.in_features % BLOCK:
            raise BackendError(
                f"{folder}: {name} is {module.in_features} wide, and bitsandbytes runs 4 bit on a CPU for multiples of "
                f"{BLOCK} only; type --set models.quantization=8bit"
            )
