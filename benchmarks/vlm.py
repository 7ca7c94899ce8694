"""Vision-language model: new tokens a second of our backends beside what a user would pick instead, on Prompt 1.

python -m benchmarks.vlm [--device auto|cpu|cuda] [--images 512] [--new-tokens 96]

Greedy decoding, so that all write the same words. Where vLLM is installed it is timed too, ours beside bare
``LLM.chat``; its caches are emptied before every round.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks.contest import Contender, Timing, time_in_turns
from benchmarks.machine import pick_device
from benchmarks.results import report
from benchmarks.text_models import (
    HAS_VLLM,
    VLM,
    as_template,
    bare_vllm,
    equal_share,
    forget,
    generate_one,
    load_vlm,
    one_turn,
)
from ltgc_local.backends.protocols import Message, Sampling, TextOptions
from ltgc_local.backends.text.transformers_models import TransformersVlm
from ltgc_local.methods.ltgc.prompts import fill_describe

CLASSES = ("bag", "coat", "dress", "sandal", "shirt", "sneaker", "trouser", "pullover", "ankle boot", "T-shirt/top")
AT_ONCE = 256  # what ``describe.batch_size`` is by default


def make_images(number: int, size_px: int) -> list[Image.Image]:
    """Return pictures of smooth noise, no two alike, half of them wider than high."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
    sizes = [(size_px, size_px if i % 2 else size_px * 3 // 4) for i in range(number)]
    return [Image.fromarray(a).resize(size, Image.Resampling.BICUBIC) for a, size in zip(small, sizes, strict=True)]


def shown(text: str, picture: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [picture, {"type": "text", "text": text}]}]


def time_transformers(
    vlm: tuple[Any, Any],
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    alone: int,
    tokens: int,
    device: str,
    rounds: int,
) -> tuple[list[Timing], list[str], int]:
    """Return the timings, the baseline's replies to the first ``alone``, and how many new tokens all replies have."""
    model, processor = vlm
    settings, turns = TextOptions(device=device), [one_turn(prompt) for prompt in prompts]
    ours = TransformersVlm.from_model(model, processor, settings)

    def one_by_one() -> list[list[int]]:
        found = []
        for image, prompt in zip(images[:alone], prompts[:alone], strict=True):
            text = as_template(processor, shown(prompt, {"type": "image"}))  # type: ignore[arg-type]
            found.append(generate_one(model, processor(text=[text], images=[image], return_tensors="pt"), tokens))
        return found

    ids = one_by_one()
    replies = processor.batch_decode(ids, skip_special_tokens=True)
    num_alone = sum(map(len, ids))
    num_tokens = num_alone * len(images) // alone
    flop = 2.0 * sum(p.numel() for p in model.parameters())  # of a new token; picture and prompt are not counted
    contenders = {
        "transformers generate, an image at a time": Contender(one_by_one, num_alone, flop),
        "ours on transformers": Contender(lambda: ours.reply(turns, Sampling(tokens), images=images), num_tokens, flop),
    }
    return time_in_turns(contenders, device, rounds), replies, num_tokens


def time_vllm(
    images: Sequence[Image.Image], prompts: Sequence[str], sampling: Sampling, items: int, device: str, rounds: int
) -> tuple[list[Timing], list[str], list[str]]:
    """Return the timings of bare vLLM and of ours on it, and what each replies."""
    from ltgc_local.backends.text.vllm_models import VllmVlm

    ours = VllmVlm(VLM, TextOptions(device=device, max_model_len=1024))
    pictures: list[dict[str, Any]] = [{"type": "image_pil", "image_pil": image} for image in images]
    bare = bare_vllm(ours._engine, [shown(p, picture) for p, picture in zip(prompts, pictures, strict=True)], sampling)
    turns: list[list[Message]] = [one_turn(prompt) for prompt in prompts]

    def in_parts(size: int) -> Callable[[], list[str]]:
        def run() -> list[str]:
            forget(ours._engine)
            parts = [slice(start, start + size) for start in range(0, len(images), size)]
            return [reply for part in parts for reply in ours.reply(turns[part], sampling, images=images[part])]

        return run

    contenders = {
        "bare vLLM, all images at once": Contender(bare, items),
        "ours on vLLM, all images at once": Contender(in_parts(len(images)), items),
        f"ours on vLLM, {AT_ONCE} at once as describe asks": Contender(in_parts(AT_ONCE), items),
    }
    return time_in_turns(contenders, device, rounds), bare(), in_parts(AT_ONCE)()


@click.command()
@click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--images", "number", default=512, show_default=True)
@click.option("--alone", default=0, help="How many the baseline answers, one at a time; 0: all on a CPU, 8 on a GPU.")
@click.option("--new-tokens", default=96, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--write/--no-write", default=True, help="Write the result under benchmarks/results.")
def main(device: str, number: int, alone: int, new_tokens: int, rounds: int, write: bool) -> None:
    """Print the table of ratios."""
    device = pick_device(device)
    alone = min(number, alone or (number if device == "cpu" else 8))
    prompts = [fill_describe(CLASSES[i % len(CLASSES)]) for i in range(number)]
    images = make_images(number, 32 if device == "cpu" else 448)
    vlm = load_vlm(device)
    timings, replies, items = time_transformers(vlm, images, prompts, alone, new_tokens, device, rounds)
    sections = {"against transformers": timings}
    ours = TransformersVlm.from_model(*vlm, TextOptions(device=device))
    same = equal_share(ours.reply([one_turn(p) for p in prompts], Sampling(new_tokens), images=images)[:alone], replies)
    facts: dict[str, Any] = {
        "images": f"{number} of {images[1].width} px under Prompt 1, {items} new tokens, {new_tokens} each at most",
        "images of the baseline": f"the first {alone}",
        "replies equal to the baseline's": f"{same:.0%} on transformers",
    }
    if HAS_VLLM and device == "cpu":  # no folder of full-size weights is at hand
        sampling = Sampling(new_tokens)
        sections["over bare vLLM"], bare, through = time_vllm(images, prompts, sampling, items, device, rounds)
        facts["replies equal to the baseline's"] += f", {equal_share(bare, replies):.0%} on bare vLLM"
        facts["ours on vLLM equal to bare vLLM's"] = f"{equal_share(through, bare):.0%}"
    report(
        "vlm-vllm" if "over bare vLLM" in sections else "vlm",
        device,
        sections,
        unit="new tokens",
        weights="miniature" if device == "cpu" else "random (Qwen2.5-VL-7B's shape)",
        command=f"python -m benchmarks.vlm {' '.join(sys.argv[1:])}".strip(),
        facts=facts,
        write=write,
    )


if __name__ == "__main__":
    main()
