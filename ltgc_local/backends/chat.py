"""What the two transformers backends share: quantised loading, seeded generation, and batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ltgc_local.backends.protocols import LoadSettings, Sampling
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype
from ltgc_local.backends.weights import refuse_missing_weights


def loading_arguments(settings: LoadSettings) -> dict[str, Any]:
    """Return ``from_pretrained``'s arguments: local safetensors only, device, dtype, bitsandbytes quantisation."""
    device = resolve_device(settings.device)
    is_spread = settings.tensor_parallel > 1 and device == "cuda"
    arguments: dict[str, Any] = {
        "local_files_only": True,
        "use_safetensors": True,
        "trust_remote_code": False,
        "dtype": resolve_dtype(settings.dtype, device),
        "device_map": "auto" if is_spread else device,
    }
    if settings.quantization != "none":
        from transformers import BitsAndBytesConfig

        arguments["quantization_config"] = (
            BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=arguments["dtype"])
            if settings.quantization == "4bit"
            else BitsAndBytesConfig(load_in_8bit=True)
        )
    return arguments


def load_weights(auto_class: Any, folder: Path, settings: LoadSettings) -> Any:
    """Return ``auto_class``'s model of the folder, in evaluation mode.

    Raises:
        ModelError: a weight of the architecture is not in the files, or has another shape.
    """
    model, found = auto_class.from_pretrained(
        folder, output_loading_info=True, ignore_mismatched_sizes=True, **loading_arguments(settings)
    )
    refuse_missing_weights(folder, model, found)
    return model.eval()


@torch.inference_mode()
def generate(model: Any, inputs: Any, sampling: Sampling, decode: Callable[..., list[str]]) -> list[str]:
    """Generate after left-padded ``inputs`` and decode only what is new."""
    torch.manual_seed(sampling.seed)
    decoding: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        decoding = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    tokens = model.generate(**inputs.to(model.device), max_new_tokens=sampling.max_new_tokens, **decoding)
    new = tokens[:, inputs["input_ids"].shape[1] :]  # (B, new tokens)
    return decode(new, skip_special_tokens=True)


def by_length(texts: Sequence[str], batch_size: int) -> list[list[int]]:
    """Group indices so that texts of similar length share a batch: padding is wasted work."""
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
