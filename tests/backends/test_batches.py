"""Batches of conversations: of similar length, halved when memory is short, and each reply in its own place."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltgc_local.backends.protocols import Message, Sampling, TextOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.text import transformers_models
from ltgc_local.backends.text.transformers_models import reply_in_batches
from ltgc_local.errors import BackendError
from ltgc_local.methods.ltgc.prompts import fill_describe

MINIATURES = Path(__file__).resolve().parents[2] / "data/miniatures"


def test_the_longest_come_first_and_every_conversation_once() -> None:
    batches: list[list[int]] = []

    def reply(rows: list[int]) -> list[str]:
        batches.append(rows)
        return [""] * len(rows)

    assert reply_in_batches([4, 1, 3, 1, 2], "cpu", reply, 2) == [""] * 5
    assert batches == [[0, 2], [4, 1], [3]]
    assert reply_in_batches([], "cpu", reply, 2) == []


def test_replies_are_in_the_order_of_the_conversations() -> None:
    assert reply_in_batches([1, 3, 2], "cpu", lambda rows: [f"reply {i}" for i in rows], 2) == [
        "reply 0",
        "reply 1",
        "reply 2",
    ]


def test_a_batch_that_memory_does_not_hold_is_halved_and_the_size_is_kept() -> None:
    tried: list[int] = []

    def reply(rows: list[int]) -> list[str]:
        tried.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [str(i) for i in rows]

    assert reply_in_batches([5] * 16, "cpu", reply, 8) == [str(i) for i in range(16)]
    assert tried == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]


def test_one_conversation_that_memory_does_not_hold_is_an_error_with_what_to_type() -> None:
    def reply(rows: list[int]) -> list[str]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(BackendError, match=r"does not hold one conversation; lower models\.max_pixels"):
        reply_in_batches([1, 1], "cpu", reply, 2)


def test_a_vlm_describes_images_of_all_sizes_alike_alone_and_in_sorted_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load_model("vlm", "transformers", MINIATURES / "qwen2.5-vl", TextOptions(max_pixels=64 * 64))
    rng, names = np.random.default_rng(0), ("bag", "coat", "bag", "sandal")
    images = [
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in ((28, 28), (64, 40), (30, 30), (200, 9))
    ]
    turns: list[list[Message]] = [[{"role": "user", "content": fill_describe(name)}] for name in names]
    monkeypatch.setattr(transformers_models, "BATCH_SIZE", {"cpu": 2, "cuda": 2})
    together = model.reply(turns, Sampling(12), images=images)
    alone = [model.reply([t], Sampling(12), images=[i])[0] for i, t in zip(images, turns, strict=True)]
    assert together == alone
    assert [name in reply for name, reply in zip(("bag", "coat"), together, strict=False)] == [True, True]


def test_a_vlm_that_can_think_is_asked_not_to(tmp_path: Path) -> None:
    shutil.copytree(MINIATURES / "qwen2.5-vl", tmp_path / "vlm")
    template = tmp_path / "vlm/chat_template.jinja"
    refusal = "{% if enable_thinking is not defined or enable_thinking %}{{ raise_exception('it thinks') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    model = load_model("vlm", "transformers", tmp_path / "vlm", TextOptions())
    assert (
        len(model.reply([[{"role": "user", "content": "a bag"}]], Sampling(2), images=[Image.new("L", (28, 28))])) == 1
    )
