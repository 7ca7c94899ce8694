"""What the two transformers backends share: quantised loading, seeded generation, and batches of similar length."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from ltgc_local.backends.protocols import NO_THINKING, LoadSettings, Sampling
from ltgc_local.backends.text.quantised import check_quantisation, check_widths_for_4bit
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype
from ltgc_local.backends.weights import refuse_missing_weights
from ltgc_local.errors import BackendError
from ltgc_local.model_store import TooSlowError, raise_too_slow, time_limit

#: Conversations that are generated side by side, by kind of device: a batch is done when its longest reply is. Batches
#: are of similar length instead of refilled: transformers' continuous batching has no images and no seed a call, and
#: on a CPU took 50 s for four short replies; who needs refilling has vLLM.
BATCH_SIZE = {"cpu": 16, "cuda": 64}

#: Seconds in which a chat template renders one conversation; it takes milliseconds.
RENDER_S = 10

#: Modules, as regular expressions, that bitsandbytes leaves whole: the output layer, and what sees, which is small
#: beside what speaks.
WHOLE = ["lm_head", r".*\bvisual", r".*\bvision_tower", r".*\bmulti_modal_projector"]

log = logging.getLogger(__name__)


def loading_arguments(folder: Path, settings: LoadSettings) -> dict[str, Any]:
    """Return ``from_pretrained``'s arguments: local safetensors only, device, dtype, bitsandbytes quantisation.

    Raises:
        BackendError: the folder is quantised in a way that this machine or the recipe does not allow.
    """
    device = resolve_device(settings.device)
    check_quantisation(folder, settings.quantization, device)
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
            BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=arguments["dtype"],
                llm_int8_skip_modules=WHOLE,
            )
            if settings.quantization == "4bit"
            else BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=WHOLE)
        )
    return arguments


def load_weights(auto_class: Any, folder: Path, settings: LoadSettings) -> Any:
    """Return ``auto_class``'s model of the folder, in evaluation mode.

    Raises:
        ModelError: a weight of the architecture is not in the files, or has another shape.
        BackendError: as ``loading_arguments``.
    """
    model, found = auto_class.from_pretrained(
        folder, output_loading_info=True, ignore_mismatched_sizes=True, **loading_arguments(folder, settings)
    )
    refuse_missing_weights(folder, model, found)
    if settings.quantization == "4bit" and model.device.type == "cpu":
        check_widths_for_4bit(folder, model)
    return model.eval()


def template_arguments(template: object) -> dict[str, bool]:
    """Return what a chat template is told: not to think, if it knows how; a processor warns of what it does not."""
    return NO_THINKING if "enable_thinking" in str(template) else {}


def render_all(parts: Any, conversations: Iterable[list[Any]]) -> list[str]:
    """Return the conversations as the tokenizer's or processor's chat template renders them, ready to be replied to.

    Raises:
        ModelError: the template does not end on one of them.
    """
    told = template_arguments(parts.chat_template)
    texts = []
    for turns in conversations:
        try:
            with time_limit(RENDER_S):
                texts.append(parts.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **told))
        except TooSlowError:
            folder = getattr(getattr(parts, "tokenizer", parts), "name_or_path", "")
            raise_too_slow(folder, RENDER_S)
    return texts


@torch.inference_mode()
def generate(model: Any, inputs: Any, sampling: Sampling, decode: Callable[..., list[str]]) -> list[str]:
    """Generate after left-padded ``inputs`` and decode only what is new."""
    torch.manual_seed(sampling.seed)
    decoding: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        decoding = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    # A folder's generation_config.json may ask for thousands of beams, each with a cache of its own.
    decoding |= {"num_beams": 1, "num_return_sequences": 1}
    tokens = model.generate(**inputs.to(model.device), max_new_tokens=sampling.max_new_tokens, **decoding)
    new = tokens[:, inputs["input_ids"].shape[1] :]  # (B, new tokens)
    return decode(new, skip_special_tokens=True)


def reply_in_batches(
    lengths: Sequence[int], device: str, reply: Callable[[list[int]], list[str]], batch_size: int | None = None
) -> list[str]:
    """Reply to conversations in batches of similar length; a batch that memory does not hold is halved.

    Args:
        lengths: of each conversation, in any unit.
        reply: replies to the conversations with these indices.

    Raises:
        BackendError: memory does not hold one conversation.
    """
    size = batch_size or BATCH_SIZE["cuda" if device.startswith("cuda") else "cpu"]
    replies = [""] * len(lengths)
    waiting = by_length(lengths, size)
    while waiting:
        rows = waiting.pop(0)
        try:
            done = reply(rows)
        except torch.OutOfMemoryError as problem:
            if len(rows) == 1:
                raise BackendError(
                    "the GPU's memory does not hold one conversation; lower models.max_pixels, or type "
                    "--set models.quantization=4bit"
                ) from problem
            torch.cuda.empty_cache()
            size = len(rows) // 2
            log.warning("out of GPU memory with %d conversations; going on with %d at once", len(rows), size)
            order = [row for batch in (rows, *waiting) for row in batch]
            waiting = [order[start : start + size] for start in range(0, len(order), size)]
            continue
        for row, text in zip(rows, done, strict=True):
            replies[row] = text
    return replies


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Group indices so that conversations of similar length share a batch: padding is wasted work.

    The longest come first, so that what memory cannot hold shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
