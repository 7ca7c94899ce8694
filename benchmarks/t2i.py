"""Drawing: our engine against the stock diffusers pipeline, from prompts to encoded PNG bytes.

    python -m benchmarks.t2i --device cpu     # the miniature at the quickstart's settings, 1 minute
    python -m benchmarks.t2i --device cuda    # SDXL at full size, random weights, 1024 px, 30 steps with guidance
    python -m benchmarks.t2i --device cuda --unet fp8    # ours as with models.unet: fp8

The stock pipeline is used as documented: a loop with one prompt per call, and the same with lists of prompts. Ours
draws the same images, which is checked, and then what a classifier of 224 px needs: fewer pixels and steps.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from benchmarks.contest import Contender, Timing, count_flop, time_in_turns
from benchmarks.machine import pick_device
from benchmarks.results import report
from benchmarks.sdxl_weights import build_full_size, load_miniature
from ltgc_local.backends.images import to_stored
from ltgc_local.backends.protocols import Drawing, DrawSettings, T2iOptions
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.runs.files import encode_png

CLASSES = ("coat", "bag", "dress", "sandal", "sneaker", "shirt")


@dataclass(frozen=True)
class Size:
    """What is drawn: how many images a run, at once, how, and the size in which they are stored."""

    settings: DrawSettings
    images: int  # ours, and stock in batches
    loop_images: int  # stock, one by one
    stored_px: int
    small: DrawSettings  # for a learner of 224 px, undistilled
    few: DrawSettings  # the same by a distilled checkpoint
    small_images: int


CPU = Size(
    DrawSettings(32, 12, 7.0, batch_size=64), 64, 16, 28,
    DrawSettings(32, 8, 7.0, guidance_interval=(0.0, 0.5), cache_interval=2, batch_size=64),
    DrawSettings(32, 4, 0.0, batch_size=64), 64,
)  # fmt: skip
GPU = Size(
    DrawSettings(1024, 30, 5.0, batch_size=8), 8, 2, 256,
    DrawSettings(768, 16, 5.0, guidance_interval=(0.2, 0.9), cache_interval=2, batch_size=16),
    DrawSettings(512, 4, 0.0, batch_size=32), 64,
)  # fmt: skip

_numbers = itertools.count()


def fresh_prompts(count: int) -> list[str]:
    """Return prompts that nobody has encoded yet."""
    return [f"A photo of the class {CLASSES[n % 6]}, number {n}." for n in itertools.islice(_numbers, count)]


def draw_stock(pipeline: Any, prompts: list[str], settings: DrawSettings) -> Iterator[Image.Image]:
    for start in range(0, len(prompts), settings.batch_size):
        batch = prompts[start : start + settings.batch_size]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(batch))]
        yield from pipeline(
            batch if len(batch) > 1 else batch[0],
            height=settings.size_px,
            width=settings.size_px,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=generators if len(batch) > 1 else generators[0],
        ).images


def draw_ours(model: DiffusersSdxl, prompts: list[str], settings: DrawSettings) -> list[Image.Image]:
    wanted = [Drawing(prompt, seed) for seed, prompt in enumerate(prompts)]
    return [image for _, image in sorted(model.draw(wanted, settings), key=lambda pair: pair[0])]


def encode_ours(model: DiffusersSdxl, prompts: list[str], settings: DrawSettings, stored_px: int) -> list[bytes]:
    """Draw and encode as the stage does: images are encoded while the model draws on."""
    wanted = [Drawing(prompt, seed) for seed, prompt in enumerate(prompts)]
    with ThreadPoolExecutor(8) as encoders:
        begun = [encoders.submit(_encode, image, stored_px) for _, image in model.draw(wanted, settings)]
    return [future.result() for future in begun]


def _encode(image: Image.Image, stored_px: int) -> bytes:
    return encode_png(to_stored(image, stored_px, "RGB"))


def count_image_flop(pipeline: Any, settings: DrawSettings, device: str) -> float:
    """Return the floating-point operations of one image by the stock pipeline, the prompt's encoding left out."""
    unet, vae = pipeline.unet, pipeline.vae
    edge = settings.size_px // pipeline.vae_scale_factor
    more = {"device": device, "dtype": unet.dtype}
    hidden, pooled = unet.config.cross_attention_dim, pipeline.text_encoder_2.config.projection_dim
    added = {"text_embeds": torch.zeros(1, pooled, **more), "time_ids": torch.zeros(1, 6, **more)}
    latents, text = torch.zeros(1, 4, edge, edge, **more), torch.zeros(1, 77, hidden, **more)
    with torch.inference_mode():
        one = count_flop(lambda: unet(latents, torch.tensor(500, device=device), text, added_cond_kwargs=added))
        rows = settings.steps * (2 if settings.guidance > 1 else 1)
        return rows * one + count_flop(lambda: vae.decode(latents))


def compare(one: list[Image.Image], other: list[Image.Image]) -> str:
    """Describe the differences between two batches of images."""
    apart = np.stack(
        [np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)) for a, b in zip(one, other, strict=True)]
    )
    return f"largest {int(apart.max())}, mean {apart.mean():.3f} of 255 grey levels"


def run(
    size: Size, device: str, compiled: str | None, unet: str | None, rounds: int
) -> tuple[list[Timing], dict[str, Any]]:
    """Time the contenders; return the timings and what was checked."""
    stock = build_full_size(device) if device == "cuda" else load_miniature()
    ours = DiffusersSdxl.from_pipeline(
        copy.deepcopy(stock), T2iOptions(device=device, compile=compiled, unet=unet), "benchmark"  # type: ignore[arg-type]
    )  # fmt: skip
    asked, loop = size.settings, replace(size.settings, batch_size=1)

    def stock_run(settings: DrawSettings, images: int) -> Callable[[], object]:
        return lambda: [_encode(image, size.stored_px) for image in draw_stock(stock, fresh_prompts(images), settings)]

    def our_run(settings: DrawSettings, images: int) -> Callable[[], object]:
        return lambda: encode_ours(ours, fresh_prompts(images), settings, size.stored_px)

    flop = count_image_flop(stock, asked, device)
    timings = time_in_turns(
        {
            "stock diffusers, a loop": Contender(stock_run(loop, size.loop_images), size.loop_images, flop),
            f"stock diffusers, batches of {asked.batch_size}": Contender(
                stock_run(asked, size.images), size.images, flop
            ),
            f"ours, {'its UNet in ' + unet if unet else 'the same images'}": Contender(
                our_run(asked, size.images), size.images, flop
            ),
            f"ours, {_words(size.small)}": Contender(our_run(size.small, size.small_images), size.small_images),
            f"ours, distilled: {_words(size.few)}": Contender(
                our_run(size.few, size.small_images), size.small_images, count_image_flop(stock, size.few, device)
            ),
        },
        device,
        rounds,
    )
    return timings, check_images(stock, ours, size)


def check_images(stock: Any, ours: DiffusersSdxl, size: Size) -> dict[str, Any]:
    """Return how far our images are from the stock loop's, and what each approximation changes."""
    asked, few = size.settings, min(4, size.images) if size.settings.size_px > 256 else 16
    prompts = fresh_prompts(few)
    exact = draw_ours(ours, prompts, asked)
    other_seeds = [image for _, image in ours.draw([Drawing(p, 1000 + i) for i, p in enumerate(prompts)], asked)]
    return {
        "ours against the stock loop, same seeds": compare(
            [*draw_stock(stock, prompts, replace(asked, batch_size=1))], exact
        ),
        "batches of 2 against larger ones": compare(draw_ours(ours, prompts, replace(asked, batch_size=2)), exact),
        "features reused at every 2nd step": compare(draw_ours(ours, prompts, replace(asked, cache_interval=2)), exact),
        "features reused at 2 of 3 steps": compare(draw_ours(ours, prompts, replace(asked, cache_interval=3)), exact),
        "guidance on the first half only": compare(
            draw_ours(ours, prompts, replace(asked, guidance_interval=(0.0, 0.5))), exact
        ),
        "for comparison, other seeds": compare(other_seeds, exact),
    }


def _words(settings: DrawSettings) -> str:
    low, high = settings.guidance_interval
    guided = f"guidance on {low:g} to {high:g} of them" if settings.guidance > 1 else "no guidance"
    reused = f", deep features every {settings.cache_interval}nd" if settings.cache_interval > 1 else ""
    return f"{settings.size_px} px, {settings.steps} steps, {guided}{reused}"


@click.command()
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--px", type=int, help="Size that the first three draw.")
@click.option("--steps", type=int, help="Denoising steps of the first three.")
@click.option("--images", type=int, help="Images a run of stock batches and ours.")
@click.option("--batch", type=int, help="Images drawn at once.")
@click.option("--compile", "compiled", type=click.Choice(["none", "regional", "full"]), help="As draw.compile.")
@click.option("--unet", type=click.Choice(["fp8"]), help="As models.unet.")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--write/--no-write", default=True, show_default=True, help="Write benchmarks/results/.")
def main(
    device: str,
    px: int | None,
    steps: int | None,
    images: int | None,
    batch: int | None,
    compiled: str | None,
    unet: str | None,
    rounds: int,
    write: bool,
) -> None:
    """Time drawing by stock diffusers and by our engine, in turns."""
    device = pick_device(device)
    size = GPU if device == "cuda" else CPU
    given = {"size_px": px, "steps": steps, "batch_size": batch}
    settings = replace(size.settings, **{key: value for key, value in given.items() if value is not None})
    size = replace(size, settings=settings, images=images or size.images)
    timings, facts = run(size, device, compiled, unet, rounds)
    report(
        f"t2i-{unet}" if unet else "t2i",
        device,
        {f"{settings.size_px} px, {settings.steps} steps, guidance {settings.guidance:g}, to PNG bytes": timings},
        unit="images",
        weights="random" if device == "cuda" else "miniature",
        command=f"python -m benchmarks.t2i {' '.join(sys.argv[1:])}".strip(),
        facts={"compiled": compiled or ("regional" if device == "cuda" else "none"), **facts},
        write=write,
    )


if __name__ == "__main__":
    main()
