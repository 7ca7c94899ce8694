"""Roles ``vlm`` and ``llm`` on vLLM's offline engine, whose decoding follows a JSON schema where one is given.

The engine runs in the step's own process (no server, no port), so its memory is free when the step ends. Prefix caching
is on, because all prompts of a class begin alike. Only safetensors are read, and no code from a model's folder is run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from PIL import Image

from ltgc_local import offline
from ltgc_local.backends.images import shrink
from ltgc_local.backends.protocols import NO_THINKING, Conversation, Sampling, TextOptions, TokenCount
from ltgc_local.backends.text.transformers_models import with_image
from ltgc_local.errors import BackendError
from ltgc_local.model_store.files import read_json

#: On a CPU the key-value cache is ordinary memory, and vLLM takes 16 GiB of it unless told otherwise.
CPU_CACHE_BYTES = 256 * 2**20
#: Prompt tokens that are read at once on a CPU; vLLM's own value there.
CPU_BATCHED_TOKENS = 4096
#: vLLM's own value is 0.92. Drawing and scoring never share a GPU with it, since a step has one model.
GPU_MEMORY_SHARE = 0.9
#: Families that make tokens of every pixel. When the engine starts, vLLM measures the memory of the largest image that
#: the processor lets through: 12.8 million pixels by the published folders, 16,384 tokens, unless it is told less.
ANY_SIZE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")


class VllmLlm:
    """Qwen2.5, Qwen3, Llama and every other causal language model that vLLM serves, as a ``ChatModel``."""

    sees_images = False

    def __init__(self, folder: Path, options: TextOptions) -> None:
        self._engine, self._max_pixels = load_engine(folder, options, self.sees_images), options.max_pixels
        self.tokens = TokenCount()

    def reply(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
        images: Sequence[Image.Image] | None = None,
    ) -> list[str]:
        messages = [[dict(turn) for turn in turns] for turns in conversations]
        if images is not None:
            shown = [shrink(image.convert("RGB"), self._max_pixels) for image in images]
            parts = [{"type": "image_pil", "image_pil": image} for image in shown]
            messages = [with_image(turns, part) for turns, part in zip(conversations, parts, strict=True)]
        return chat(self._engine, messages, sampling, schema, self.tokens)


@final
class VllmVlm(VllmLlm):
    """Qwen2.5-VL, LLaVA and every other image-and-text model that vLLM serves: one image per conversation."""

    sees_images = True


def load_engine(folder: Path, options: TextOptions, sees_images: bool) -> Any:
    """Return a ``vllm.LLM`` on a local folder.

    Raises:
        BackendError: vLLM is not installed, cannot run on the requested device, or was asked for bitsandbytes.
    """
    if options.quantization != "none":
        raise BackendError(
            "vLLM loads no bitsandbytes weights: give the card of an AWQ, GPTQ or FP8 folder, or type "
            "--set models.backend=transformers"
        )
    # One process: a second one would take half a minute to start, and this step already has its own.
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
    if options.device not in ("auto", device):
        raise BackendError(
            f"models.device is {options.device}, but the installed vLLM runs on {device}; type "
            f"--set models.device={device}, or --set models.backend=transformers"
        )
    return LLM(**engine_arguments(folder, options, device, sees_images))


def engine_arguments(folder: Path, options: TextOptions, device: str, sees_images: bool) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM`` for a local folder on "cpu" or "cuda"."""
    config = read_json(folder / "config.json")
    longest = int(config.get("text_config", config).get("max_position_embeddings", options.max_model_len))
    length = min(options.max_model_len, longest)
    arguments: dict[str, Any] = {
        "model": str(folder),
        "dtype": "float32" if options.dtype == "auto" and device == "cpu" else options.dtype,
        "trust_remote_code": False,
        "load_format": "safetensors",
        "generation_config": "vllm",  # the recipe's sampling, not the publisher's
        "enable_prefix_caching": True,
        "max_model_len": length,
        "tensor_parallel_size": options.tensor_parallel,
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "disable_log_stats": True,
    }
    if sees_images:
        arguments["limit_mm_per_prompt"] = {"image": 1, "video": 0}
        if config.get("model_type") in ANY_SIZE and (pixels := _lower_limit(folder, options.max_pixels)):
            arguments["mm_processor_kwargs"] = {"max_pixels": pixels}
    if device == "cpu":
        arguments |= {
            "enforce_eager": True,  # compiling takes longer than the small models that run here
            "kv_cache_memory_bytes": CPU_CACHE_BYTES,
            "distributed_executor_backend": "uni",
            "skip_mm_profiling": True,  # on a GPU the vision tower's memory must be measured; here it is not scarce
            # A seeded reply whose prompt is read in parts ends the engine here: "CPU Generator does not use offset".
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCHED_TOKENS, length),
        }
    else:
        backend = "mp" if options.tensor_parallel > 1 else "uni"
        arguments |= {"gpu_memory_utilization": GPU_MEMORY_SHARE, "distributed_executor_backend": backend}
    return arguments


def _lower_limit(folder: Path, max_pixels: int) -> int | None:
    """Return ``max_pixels``, or the least that the folder's processor takes; None if its own limit is lower."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        settings = read_json(folder / name) if (folder / name).is_file() else {}
        settings = settings.get("image_processor", settings)
        size = settings.get("size") or {}
        fewest, most = settings.get("min_pixels"), settings.get("max_pixels")  # null means that ``size`` has it
        fewest = size.get("shortest_edge") if fewest is None else fewest
        most = size.get("longest_edge") if most is None else most
        if most is not None:
            return max(max_pixels, fewest or 0) if most > max_pixels else None
    return None


def chat(
    engine: Any,
    messages: Sequence[list[dict[str, Any]]],
    sampling: Sampling,
    schema: dict[str, Any] | None,
    tokens: TokenCount,
) -> list[str]:
    """Reply to each conversation; the engine batches them. The seed of each depends on its place in the list.

    A schema bounds its own reply: xgrammar lets no string outgrow ``maxLength`` and no list ``maxItems``, after which
    only the end is left (567 characters for one description). So ``max_tokens`` stays the recipe's: a number derived
    from the schema would be larger, or guess the characters per token and cut off complete replies.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    is_greedy = sampling.temperature == 0
    parameters = [
        SamplingParams(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=1.0 if is_greedy else sampling.top_p,
            seed=None if is_greedy else (sampling.seed + position) % 2**63,  # a seed costs time at each token
            structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
        )
        for position in range(len(messages))
    ]
    outputs = engine.chat(list(messages), parameters, use_tqdm=False, chat_template_kwargs=NO_THINKING)
    tokens.read += sum(len(output.prompt_token_ids) for output in outputs)
    tokens.written += sum(len(output.outputs[0].token_ids) for output in outputs)
    return [output.outputs[0].text for output in outputs]
