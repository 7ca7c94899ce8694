"""Language model: new tokens a second of our backends beside what a user would pick instead, on Prompt 2's prompts.

python -m benchmarks.llm [--device auto|cpu|cuda] [--prompts 48] [--new-tokens 128]

Greedy decoding, so that all write the same words. Where vLLM is installed it is timed too, ours beside bare
``LLM.chat``; its caches are emptied before every round.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from benchmarks.contest import Contender, Timing, time_in_turns
from benchmarks.machine import pick_device
from benchmarks.results import report
from benchmarks.text_models import (
    HAS_VLLM,
    LLM,
    as_template,
    bare_vllm,
    equal_share,
    forget,
    generate_one,
    load_llm,
    one_turn,
)
from ltgc_local.backends.protocols import Message, Sampling, TextOptions
from ltgc_local.backends.text.transformers_models import TransformersLlm
from ltgc_local.methods.ltgc.prompts import fill_extend

CLASSES = ("bag", "coat", "dress", "sandal", "shirt", "sneaker", "trouser", "pullover", "ankle boot", "T-shirt/top")
#: Conversations that ``extend`` asks at once by its defaults: batch_size classes times parallel_asks.
AT_ONCE = 64
#: Tokens of a sampled reply: fewer than any reply has, so that all contenders write as many.
SAMPLED_TOKENS = 64
SAMPLED = "over bare vLLM, sampled as extend does: ours has a seed for every reply, bare vLLM none"


def make_prompts(number: int) -> list[list[Message]]:
    """Return Prompt 2s of classes in turn, under lists of other lengths."""
    rng = random.Random(0)
    known = [f"A photo of the class bag with a handle and detail {i}." for i in range(12)]
    lists = [rng.sample(known, rng.randint(0, 12)) for _ in range(number)]
    return [one_turn(fill_extend(CLASSES[i % len(CLASSES)], shown, 8)) for i, shown in enumerate(lists)]


def time_transformers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[Message]],
    alone: int,
    sampling: Sampling,
    device: str,
    rounds: int,
) -> tuple[list[Timing], list[str], int]:
    """Return the timings, the baseline's replies to the first ``alone``, and how many new tokens all replies have."""
    ours = TransformersLlm.from_model(model, tokenizer)

    def one_by_one() -> list[list[int]]:
        texts = (as_template(tokenizer, turns) for turns in prompts[:alone])
        inputs = (tokenizer(text, return_tensors="pt", add_special_tokens=False) for text in texts)
        return [generate_one(model, each, sampling.max_new_tokens) for each in inputs]

    tokens = one_by_one()
    replies = [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]
    num_alone = sum(map(len, tokens))
    num_tokens = num_alone * len(prompts) // alone
    flop = 2.0 * sum(p.numel() for p in model.parameters())  # of a new token; the prompt's are not counted
    contenders = {
        "transformers generate, a prompt at a time": Contender(one_by_one, num_alone, flop),
        "ours on transformers": Contender(lambda: ours.reply(prompts, sampling), num_tokens, flop),
    }
    return time_in_turns(contenders, device, rounds), replies, num_tokens


def time_vllm(
    ours: Any, prompts: Sequence[list[Message]], sampling: Sampling, num_tokens: int, device: str, rounds: int
) -> tuple[list[Timing], list[str], list[str]]:
    """Return the timings of bare vLLM and of ours on it, and what each replies."""
    bare = bare_vllm(ours._engine, [[dict(turn) for turn in turns] for turns in prompts], sampling)

    def in_parts(size: int) -> Callable[[], list[str]]:
        def run() -> list[str]:
            forget(ours._engine)
            parts = [prompts[start : start + size] for start in range(0, len(prompts), size)]
            return [reply for part in parts for reply in ours.reply(part, sampling)]

        return run

    contenders = {
        "bare vLLM, all prompts at once": Contender(bare, num_tokens),
        "ours on vLLM, all prompts at once": Contender(in_parts(len(prompts)), num_tokens),
        f"ours on vLLM, {AT_ONCE} at once as extend asks": Contender(in_parts(AT_ONCE), num_tokens),
    }
    return time_in_turns(contenders, device, rounds), bare(), in_parts(AT_ONCE)()


@click.command()
@click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--prompts", "number", default=48, show_default=True)
@click.option("--alone", default=0, help="How many the baseline answers, one at a time; 0: all on a CPU, 8 on a GPU.")
@click.option("--new-tokens", default=128, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--write/--no-write", default=True, help="Write the result under benchmarks/results.")
def main(device: str, number: int, alone: int, new_tokens: int, rounds: int, write: bool) -> None:
    """Print the table of ratios."""
    device = pick_device(device)
    alone = min(number, alone or (number if device == "cpu" else 8))
    prompts, sampling = make_prompts(number), Sampling(new_tokens)
    model, tokenizer = load_llm(device)
    timings, replies, num_tokens = time_transformers(model, tokenizer, prompts, alone, sampling, device, rounds)
    sections = {"against transformers": timings}
    same = equal_share(TransformersLlm.from_model(model, tokenizer).reply(prompts, sampling)[:alone], replies)
    facts: dict[str, Any] = {
        "prompts": f"{number} of Prompt 2, {num_tokens} new tokens in all, {new_tokens} each at most",
        "prompts of the baseline": f"the first {alone}",
        "replies equal to the baseline's": f"{same:.0%} on transformers",
    }
    if HAS_VLLM and device == "cpu":  # no folder of full-size weights is at hand
        del model
        from ltgc_local.backends.text.vllm_models import VllmLlm

        llm = VllmLlm(LLM, TextOptions(device=device, max_model_len=1024))
        sections["over bare vLLM"], bare, ours = time_vllm(llm, prompts, sampling, num_tokens, device, rounds)
        drawn = Sampling(SAMPLED_TOKENS, temperature=0.9, top_p=0.95)
        sections[SAMPLED] = time_vllm(llm, prompts, drawn, number * SAMPLED_TOKENS, device, rounds)[0]
        facts["replies equal to the baseline's"] += f", {equal_share(bare, replies):.0%} on bare vLLM"
        facts["ours on vLLM equal to bare vLLM's"] = f"{equal_share(ours, bare):.0%}"
    report(
        "llm-vllm" if "over bare vLLM" in sections else "llm",
        device,
        sections,
        unit="new tokens",
        weights="miniature" if device == "cpu" else "random (Qwen2.5-7B's shape)",
        command=f"python -m benchmarks.llm {' '.join(sys.argv[1:])}".strip(),
        facts=facts,
        write=write,
    )


if __name__ == "__main__":
    main()
