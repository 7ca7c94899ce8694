"""Loading text models on transformers, quantised by bitsandbytes or already quantised in their folder (AWQ, GPTQ …)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from ltgc_local.backends.protocols import TextOptions
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype
from ltgc_local.backends.weights import load_pretrained
from ltgc_local.errors import BackendError
from ltgc_local.model_store.files import read_json

#: config.json's quant_method -> the package that transformers needs for it; None: it needs a GPU only.
PACKAGES: dict[str, str | None] = {
    "awq": "gptqmodel",
    "gptq": "gptqmodel",
    "fp8": None,
    "compressed-tensors": "compressed_tensors",
    "bitsandbytes": "bitsandbytes",
}
#: What transformers loads without a GPU.
ON_CPU = frozenset({"compressed-tensors", "bitsandbytes"})
#: Weights that share one scale in bitsandbytes' 4 bit; on a CPU a row must consist of whole blocks.
BLOCK = 64
#: Modules, as regular expressions, that bitsandbytes leaves whole: the output layer, and the vision tower, which is
#: small compared with the language model.
WHOLE = ["lm_head", r".*\bvisual", r".*\bvision_tower", r".*\bmulti_modal_projector"]


def load_quantised(auto_class: Any, folder: Path, options: TextOptions) -> Any:
    """Return ``auto_class``'s model of the folder in evaluation mode, on its device, quantised as the options say.

    Raises:
        ModelError: a weight of the architecture is not in the files, or has another shape.
        BackendError: the folder is quantised in a way that this machine or the recipe does not allow.
    """
    device = resolve_device(options.device)
    check_quantisation(folder, options.quantization, device)
    dtype, quantised = resolve_dtype(options.dtype, device), {}
    if options.quantization != "none":
        from transformers import BitsAndBytesConfig

        four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
        bits: dict[str, Any] = four if options.quantization == "4bit" else {"load_in_8bit": True}
        quantised["quantization_config"] = BitsAndBytesConfig(**bits, llm_int8_skip_modules=WHOLE)
    is_spread = options.tensor_parallel > 1 and device == "cuda"
    device_map = "auto" if is_spread else device
    model = load_pretrained(
        auto_class, folder, trust_remote_code=False, dtype=dtype, device_map=device_map, **quantised
    )
    if options.quantization == "4bit" and model.device.type == "cpu":
        check_widths_for_4bit(folder, model)
    return model.eval()


def quantised_by(folder: Path) -> str | None:
    """Return config.json's quant_method in lower case, or None where the weights are whole.

    Raises:
        ModelError: config.json is not JSON.
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
        raise BackendError(f"{folder}: its weights are already quantised by {method}; type --set {unset}")
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
        BackendError: the width of a layer's input is not a multiple of 64.
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "Linear4bit" and module.in_features % BLOCK:
            raise BackendError(
                f"{folder}: {name} is {module.in_features} wide, and bitsandbytes runs 4 bit on a CPU for multiples of "
                f"{BLOCK} only; type --set models.quantization=8bit"
            )
