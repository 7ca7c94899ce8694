"""Replies that real models wrote: tests/data/replies.jsonl holds each with its model, its task and how it must read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.repetition import kept_by_repetition_check

LINES = (Path(__file__).parent / "data/replies.jsonl").read_text("utf-8").splitlines()
CORPUS: list[dict[str, Any]] = [json.loads(line) for line in LINES]


def test_the_corpus_has_both_miniatures_and_a_language_model_of_general_use() -> None:
    sources = {reply["source"].split(",")[0] for reply in CORPUS}
    assert sources == {"miniature-qwen2.5-vl", "miniature-qwen3", "SmolLM2-135M-Instruct Q4_1"}
    assert {r["task"] for r in CORPUS} == {"describe", "extend", "repetition", "summarize", "refine", "structured"}
    assert len({reply["reply"] for reply in CORPUS}) == len(CORPUS) >= 100


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_a_real_reply_reads_as_it_was_judged(number: int) -> None:
    reply = CORPUS[number]
    parsed = parse_descriptions(reply["reply"], reply["class_name"])
    assert list(parsed.sentences) == reply["sentences"]
    assert all(line and reason for line, reason in parsed.dropped)


def test_what_the_miniatures_write_reads_without_loss() -> None:
    for reply in CORPUS:
        if reply["source"].startswith("miniature"):
            parsed = parse_descriptions(reply["reply"], reply["class_name"])
            lines = [re.sub(r"^(?:\d+\.|-) ", "", line) for line in reply["reply"].splitlines()]
            assert (list(parsed.sentences), parsed.dropped) == (lines, ())


def test_a_real_reply_to_prompt_3_keeps_its_own_list() -> None:
    for reply in CORPUS:
        if reply["task"] == "repetition" and reply["source"].startswith("miniature"):
            asked = list(dict.fromkeys(reply["sentences"]))
            assert kept_by_repetition_check(reply["reply"], reply["class_name"], asked) == [True] * len(asked)
