"""Chat models: new tokens per second of our backends and of what a user would pick instead, on Prompt 2 or Prompt 1.

    python -m benchmarks.chat llm [--device auto|cpu|cuda] [--number 48] [--new-tokens 128]
    python -m benchmarks.chat vlm [--device auto|cpu|cuda] [--number 512] [--new-tokens 96]

Greedy decoding, so that all write the same words. Where vLLM is installed it is timed too, ours against bare
``LLM.chat``; its caches are emptied before every round.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks.contest import Contender, Timing, time_in_turns
from benchmarks.machine import pick_device
from benchmarks.results import report
from benchmarks.text_models import (
    HAS_VLLM,
    LLM,
    VLM,
    as_template,
    bare_vllm,
    equal_share,
    forget,
    generate_one,
    load_llm,
    load_vlm,
    one_turn,
)
from ltgc_local.backends.protocols import Message, Sampling, TextOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.text.transformers_models import TransformersLlm, TransformersVlm, with_image
from ltgc_local.methods.ltgc.prompts import fill_describe, fill_extend

CLASSES = ("bag", "coat", "dress", "sandal", "shirt", "sneaker", "trouser", "pullover", "ankle boot", "T-shirt/top")
#: Tokens of a sampled reply: fewer than any reply has, so that all contenders write as many.
SAMPLED_TOKENS = 64
SAMPLED = "over bare vLLM, sampled as extend does: ours has a seed for every reply, bare vLLM none"


@dataclass(frozen=True)
class Work:
    """Conversations, and for a vlm their images.

    Attributes:
        item: what a conversation is counted as.
        at_once: how many conversations the stage of this name asks at once by its defaults.
    """

    item: str
    stage: str
    at_once: int
    turns: list[list[Message]]
    images: list[Image.Image] | None = None

    def part(self, start: int, stop: int) -> dict[str, Any]:
        """Return arguments of ``ChatModel.reply``."""
        images = None if self.images is None else self.images[start:stop]
        return {"conversations": self.turns[start:stop], "images": images}


def make_llm_work(number: int) -> Work:
    """Return Prompt 2s of classes in turn, under lists of other lengths; as many at once as ``extend`` asks."""
    rng = random.Random(0)
    known = [f"A photo of the class bag with a handle and detail {i}." for i in range(12)]
    lists = [rng.sample(known, rng.randint(0, 12)) for _ in range(number)]
    turns = [one_turn(fill_extend(CLASSES[i % len(CLASSES)], shown, 8)) for i, shown in enumerate(lists)]
    return Work("prompt", "extend", 64, turns)


def make_vlm_work(number: int, size_px: int) -> Work:
    """Return Prompt 1s under images of smooth noise, no two alike, half of them wider than high."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
    sizes = [(size_px, size_px if i % 2 else size_px * 3 // 4) for i in range(number)]
    images = [Image.fromarray(a).resize(size, Image.Resampling.BICUBIC) for a, size in zip(small, sizes, strict=True)]
    turns = [one_turn(fill_describe(CLASSES[i % len(CLASSES)])) for i in range(number)]
    return Work("image", "describe", 256, turns, images)


def time_transformers(
    ours: Any, work: Work, alone: int, tokens: int, device: str, rounds: int
) -> tuple[list[Timing], list[str], int]:
    """Return the timings, the baseline's replies to the first ``alone``, and how many new tokens all replies have."""
    model, parts = ours._model, ours._parts

    def one_by_one() -> list[list[int]]:
        found = []
        for i, turns in enumerate(work.turns[:alone]):
            shown: Any = turns if work.images is None else with_image(turns, {"type": "image"})
            more = {"add_special_tokens": False} if work.images is None else {"images": [work.images[i]]}
            inputs = parts(text=[as_template(parts, shown)], return_tensors="pt", **more)
            found.append(generate_one(model, inputs, tokens))
        return found

    ids = one_by_one()
    num_alone = sum(map(len, ids))
    num_tokens = num_alone * len(work.turns) // alone
    flop = 2.0 * sum(p.numel() for p in model.parameters())  # of a new token; prompt and image are not counted
    every = work.part(0, len(work.turns))
    contenders = {
        f"transformers generate, one {work.item} at a time": Contender(one_by_one, num_alone, flop),
        "ours on transformers": Contender(lambda: ours.reply(sampling=Sampling(tokens), **every), num_tokens, flop),
    }
    replies = parts.batch_decode(ids, skip_special_tokens=True)
    return time_in_turns(contenders, device, rounds), replies, num_tokens


def time_vllm(
    ours: Any, work: Work, sampling: Sampling, num_tokens: int, device: str, rounds: int
) -> tuple[list[Timing], list[str], list[str]]:
    """Return the timings of bare vLLM and of ours on it, and the replies of each."""
    messages: list[Any] = [[dict(turn) for turn in turns] for turns in work.turns]
    if work.images is not None:
        parts = [{"type": "image_pil", "image_pil": image} for image in work.images]
        messages = [with_image(turns, part) for turns, part in zip(work.turns, parts, strict=True)]
    bare = bare_vllm(ours._engine, messages, sampling)

    def in_parts(size: int) -> Callable[[], list[str]]:
        def run() -> list[str]:
            forget(ours._engine)
            starts = range(0, len(work.turns), size)
            return [text for i in starts for text in ours.reply(sampling=sampling, **work.part(i, i + size))]

        return run

    contenders = {
        f"bare vLLM, all {work.item}s at once": Contender(bare, num_tokens),
        f"ours on vLLM, all {work.item}s at once": Contender(in_parts(len(work.turns)), num_tokens),
        f"ours on vLLM, {work.at_once} at once as {work.stage} asks": Contender(in_parts(work.at_once), num_tokens),
    }
    return time_in_turns(contenders, device, rounds), bare(), in_parts(work.at_once)()


@click.command()
@click.argument("role", type=click.Choice(["llm", "vlm"]))
@click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--number", default=0, help="Conversations; 0: 48 of an llm, 512 of a vlm.")
@click.option("--alone", default=0, help="How many the baseline answers, one at a time; 0: all on a CPU, 8 on a GPU.")
@click.option("--new-tokens", default=0, help="Of a reply at most; 0: 128 of an llm, 96 of a vlm.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--write/--no-write", default=True, help="Write the result under benchmarks/results.")
def main(role: str, device: str, number: int, alone: int, new_tokens: int, rounds: int, write: bool) -> None:
    """Print the table of ratios."""
    device, is_llm = pick_device(device), role == "llm"
    number, new_tokens = number or (48 if is_llm else 512), new_tokens or (128 if is_llm else 96)
    alone = min(number, alone or (number if device == "cpu" else 8))
    work = make_llm_work(number) if is_llm else make_vlm_work(number, 32 if device == "cpu" else 448)
    load, kind = (load_llm, TransformersLlm) if is_llm else (load_vlm, TransformersVlm)
    ours: Any = kind.from_model(*load(device), TextOptions(device=device))
    timings, replies, num_tokens = time_transformers(ours, work, alone, new_tokens, device, rounds)
    sections, sampling = {"against transformers": timings}, Sampling(new_tokens)
    same = equal_share(ours.reply(sampling=sampling, **work.part(0, number))[:alone], replies)
    what = f"{number} of Prompt 2" if work.images is None else f"{number} of {work.images[1].width} px under Prompt 1"
    facts: dict[str, Any] = {
        f"{work.item}s": f"{what}, {num_tokens} new tokens in all, {new_tokens} each at most",
        f"{work.item}s of the baseline": f"the first {alone}",
        "replies equal to the baseline's": f"{same:.0%} on transformers",
    }
    if HAS_VLLM and device == "cpu":  # no folder of full-size weights is at hand
        del ours
        options = TextOptions(device=device, max_model_len=1024)
        on_vllm = load_model(role, "vllm", LLM if is_llm else VLM, options)
        sections["over bare vLLM"], bare, through = time_vllm(on_vllm, work, sampling, num_tokens, device, rounds)
        if is_llm:
            drawn = Sampling(SAMPLED_TOKENS, temperature=0.9, top_p=0.95)
            sections[SAMPLED] = time_vllm(on_vllm, work, drawn, number * SAMPLED_TOKENS, device, rounds)[0]
        facts["replies equal to the baseline's"] += f", {equal_share(bare, replies):.0%} on bare vLLM"
        facts["ours on vLLM equal to bare vLLM's"] = f"{equal_share(through, bare):.0%}"
    report(
        f"{role}-vllm" if "over bare vLLM" in sections else role,
        device,
        sections,
        unit="new tokens",
        weights="miniature" if device == "cpu" else f"random (Qwen2.5{'' if is_llm else '-VL'}-7B's shape)",
        command=f"python -m benchmarks.chat {' '.join(sys.argv[1:])}".strip(),
        facts=facts,
        write=write,
    )


if __name__ == "__main__":
    main()
