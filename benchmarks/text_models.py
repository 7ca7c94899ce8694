"""The text models that ``llm`` and ``vlm`` are timed on: the miniatures on a CPU, full-size shapes on a GPU.

Full-size weights are random, in bfloat16: they cost what published ones cost. Their tokenizer is the miniatures' (a
chat template is needed, not a vocabulary), and they seldom end by themselves: every reply has all the tokens allowed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ltgc_local.backends.protocols import NO_THINKING, Conversation, Message, Sampling
from ltgc_local.backends.text.transformers_models import template_arguments

MINIATURES = Path(__file__).resolve().parents[1] / "data/miniatures"
LLM, VLM = MINIATURES / "qwen3", MINIATURES / "qwen2.5-vl"
HAS_VLLM = importlib.util.find_spec("vllm") is not None
#: Qwen2.5-7B and the language model of Qwen2.5-VL-7B, from their published configurations.
TEXT_7B = {
    "vocab_size": 152_064,
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": False,
}
#: The vision tower of Qwen2.5-VL-7B.
VISION_7B = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
    "patch_size": 14,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}


def one_turn(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def load_llm(device: str) -> tuple[Any, Any]:
    """Return (model, tokenizer): the miniature, or Qwen2.5-7B's shape on a GPU."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    tokenizer = AutoTokenizer.from_pretrained(LLM, local_files_only=True)
    if device == "cpu":
        return AutoModelForCausalLM.from_pretrained(LLM, local_files_only=True, dtype=torch.float32).eval(), tokenizer
    config = Qwen2Config(**TEXT_7B, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return _random(AutoModelForCausalLM, config, device), tokenizer


def load_vlm(device: str) -> tuple[Any, Any]:
    """Return (model, processor): the miniature, or Qwen2.5-VL-7B's shape on a GPU."""
    from transformers import (  # fmt: skip
        AutoModelForImageTextToText,
        AutoProcessor,
        Qwen2_5_VLConfig,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    processor = AutoProcessor.from_pretrained(VLM, local_files_only=True)
    if device == "cpu":
        model = AutoModelForImageTextToText.from_pretrained(VLM, local_files_only=True, dtype=torch.float32)
        return model.eval(), processor
    tokenizer = processor.tokenizer
    words = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{word}|>") for name, word in words.items()}
    rope = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Qwen2_5_VLConfig(
        text_config=TEXT_7B | ends | {"rope_parameters": rope},
        vision_config=VISION_7B,
        tie_word_embeddings=False,
        **ids,
    )
    size = {"shortest_edge": 56 * 56, "longest_edge": 1024 * 1024}
    full = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=size), tokenizer, Qwen2VLVideoProcessor(size=size),
        chat_template=processor.chat_template,
    )  # fmt: skip
    return _random(AutoModelForImageTextToText, config, device), full


def _random(auto_class: Any, config: Any, device: str) -> Any:
    torch.manual_seed(0)
    with torch.device(device):
        return auto_class.from_config(config, dtype=torch.bfloat16).eval()


@torch.inference_mode()
def generate_one(model: Any, inputs: Any, max_new_tokens: int) -> list[int]:
    """Do what the model's page shows: ``generate`` on one conversation; return the new tokens."""
    tokens = model.generate(**inputs.to(model.device), max_new_tokens=max_new_tokens, do_sample=False)
    return list(tokens[0, inputs["input_ids"].shape[1] :].tolist())


def as_template(tokenizer: Any, turns: Conversation) -> str:
    """Write a conversation in the chat template of a tokenizer or processor."""
    told = template_arguments(tokenizer.chat_template)
    return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True, **told))


def bare_vllm(engine: Any, messages: Sequence[list[Any]], sampling: Sampling) -> Callable[[], list[str]]:
    """Return a call of ``LLM.chat`` as vLLM's own examples write it: all conversations at once."""
    from vllm import SamplingParams

    def run() -> list[str]:
        forget(engine)
        wanted = SamplingParams(
            max_tokens=sampling.max_new_tokens, temperature=sampling.temperature, top_p=sampling.top_p
        )
        outputs = engine.chat(list(messages), wanted, use_tqdm=False, chat_template_kwargs=NO_THINKING)
        return [output.outputs[0].text for output in outputs]

    return run


def forget(engine: Any) -> None:
    """Empty the engine's caches of prompts and images, which the previous round filled."""
    engine.reset_prefix_cache()
    engine.llm_engine.reset_mm_cache()


def equal_share(replies: Sequence[str], others: Sequence[str]) -> float:
    """Return the share of replies that are the same text (greedy decoding; sums in another order may tip a token)."""
    return sum(one == other for one, other in zip(replies, others, strict=True)) / len(replies)
