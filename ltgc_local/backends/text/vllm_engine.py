"""What the two vLLM backends share: the offline engine, its sampling parameters, and structured output.

The engine lives in the step's own process (no server, no port): when the step ends, its memory is free. Prefix caching
is on, because every prompt of a class begins alike. Only safetensors are read and no code of a model's folder is run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltgc_local import offline
from ltgc_local.backends.protocols import NO_THINKING, LoadSettings, Sampling
from ltgc_local.errors import BackendError
from ltgc_local.model_store import read_json

#: On a CPU the key-value cache is ordinary memory, of which vLLM takes 16 GiB if it is not told.
CPU_CACHE_BYTES = 256 * 2**20
#: Tokens of prompts that are read at once on a CPU; vLLM's own value there.
CPU_BATCHED_TOKENS = 4096
#: vLLM's own value is 0.92; drawing and scoring never share a GPU with it, since a step has one model.
GPU_MEMORY_SHARE = 0.9


def load_engine(folder: Path, settings: LoadSettings, **arguments: Any) -> Any:
    """Return a ``vllm.LLM`` on a local folder.

    Args:
        arguments: more of its arguments, such as ``limit_mm_per_prompt``.

    Raises:
        BackendError: vLLM is not installed, cannot run on the asked device, or was asked for bitsandbytes.
    """
    if settings.quantization != "none":
        raise BackendError(
            "vLLM loads no bitsandbytes weights: give the card of an AWQ, GPTQ or FP8 folder, or type "
            "--set models.backend=transformers"
        )
    # One process: a second one would cost half a minute to start, and this step's process is its own already.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    offline.listen_on_loopback()
    try:
        from vllm import LLM
        from vllm.platforms import current_platform
    except ImportError as problem:
        raise BackendError(
            f"models.backend is vllm, but vLLM cannot be imported ({problem}); type: pip install -e '.[vllm]', "
            "or --set models.backend=transformers"
        ) from problem
    logging.getLogger("vllm").setLevel(logging.ERROR)
    device = "cpu" if current_platform.is_cpu() else "cuda"
    if settings.device not in ("auto", device):
        raise BackendError(
            f"models.device is {settings.device}, but the vLLM that is installed runs on {device}; type "
            f"--set models.device={device}, or --set models.backend=transformers"
        )
    length = _length(folder, settings.max_model_len)
    return LLM(
        model=str(folder),
        dtype=_dtype(settings.dtype, device),
        trust_remote_code=False,
        load_format="safetensors",
        generation_config="vllm",  # the recipe's sampling, not the publisher's
        enable_prefix_caching=True,
        max_model_len=length,
        tensor_parallel_size=settings.tensor_parallel,
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        disable_log_stats=True,
        **_device_arguments(device, settings.tensor_parallel, length),
        **arguments,
    )


def _length(folder: Path, wanted: int) -> int:
    """Return ``wanted`` tokens, or what the model's configuration allows if that is less."""
    config = read_json(folder / "config.json")
    return min(wanted, int(config.get("text_config", config).get("max_position_embeddings", wanted)))


def _dtype(name: str, device: str) -> str:
    return ("float32" if device == "cpu" else "auto") if name == "auto" else name


def _device_arguments(device: str, tensor_parallel: int, length: int) -> dict[str, Any]:
    """On a CPU nothing is compiled: a compilation takes longer than the small models that run there."""
    if device == "cpu":
        return {
            "enforce_eager": True,
            "kv_cache_memory_bytes": CPU_CACHE_BYTES,
            "distributed_executor_backend": "uni",
            "skip_mm_profiling": True,  # on a GPU the vision tower's memory must be measured; here it is not scarce
            # A seeded reply whose prompt is read in parts ends the engine here: "CPU Generator does not use offset".
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCHED_TOKENS, length),
        }
    return {
        "gpu_memory_utilization": GPU_MEMORY_SHARE,
        "distributed_executor_backend": "mp" if tensor_parallel > 1 else "uni",
    }


def chat(
    engine: Any, messages: Sequence[list[dict[str, Any]]], sampling: Sampling, schema: dict[str, Any] | None
) -> list[str]:
    """Reply to each conversation; the engine batches them. Each has its own seed, by its place in the list.

    A schema bounds its own reply: xgrammar lets no string outgrow ``maxLength`` and no list ``maxItems``, after which
    only the end is left (567 characters for one description). ``max_tokens`` stays the recipe's: a number made from
    the schema would be larger than that, or a guess of characters a token that cuts off whole replies.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    structured = StructuredOutputsParams(json=schema) if schema else None
    parameters = [
        SamplingParams(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p if sampling.temperature > 0 else 1.0,
            seed=(sampling.seed + position) % 2**63 if sampling.temperature > 0 else None,  # a seed costs each token
            structured_outputs=structured,
        )
        for position in range(len(messages))
    ]
    outputs = engine.chat(list(messages), parameters, use_tqdm=False, chat_template_kwargs=NO_THINKING)
    return [output.outputs[0].text for output in outputs]
