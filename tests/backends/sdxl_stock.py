"""The stock pipelines on the miniature SDXL: what the engine's images are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from PIL import Image

from ltgc_local.backends.protocols import Drawing, DrawSettings
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.seeding import item_seed

FOLDER = Path(__file__).resolve().parents[2] / "data/miniatures/sdxl"
PROMPTS = [
    "A photo of the class coat with long sleeves.", "A photo of the class bag with a handle.",
    "A photo of the class dress with a narrow waist.", "A photo of the class coat with a hood.",
    "A photo of the class sandal.", "A photo of the class bag with a handle.",
    "A photo of the class trouser in a shop.", "A photo of the class sneaker with laces.",
]  # fmt: skip
WANTED = [Drawing(prompt, seed) for seed, prompt in enumerate(PROMPTS, start=11)]


def load_stock() -> Any:
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        FOLDER, dtype=torch.float32, variant="fp16", local_files_only=True, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_stock(pipeline: Any, wanted: Sequence[Drawing], settings: DrawSettings, **more: Any) -> np.ndarray:
    """Draw as documented, one image a call; with sources by the img2img pipeline. Return pixels (B, H, W, 3)."""
    images = [_draw_one(pipeline, drawing, settings, **more) for drawing in wanted]
    return np.stack([np.asarray(image, dtype=int) for image in images])


def _draw_one(pipeline: Any, drawing: Drawing, settings: DrawSettings, **more: Any) -> Image.Image:
    size = {"height": settings.size_px, "width": settings.size_px}
    if drawing.source is not None:
        pipeline = StableDiffusionXLImg2ImgPipeline(**pipeline.components, add_watermarker=False)
        pipeline.set_progress_bar_config(disable=True)
        # Its own latents: the stock pipeline would draw the VAE's posterior and the noise from one generator.
        latents = pipeline.prepare_latents(
            pipeline.image_processor.preprocess([drawing.source]), None, 1, 1, torch.float32, "cpu",
            generator=[torch.Generator().manual_seed(item_seed(drawing.seed, "encode"))], add_noise=False,
        )  # fmt: skip
        size = {"image": latents, "strength": settings.strength}
    return pipeline(
        prompt=drawing.prompt,
        negative_prompt=settings.negative_prompt or None,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=torch.Generator().manual_seed(drawing.seed),
        **size,
        **more,
    ).images[0]


def draw_ours(model: DiffusersSdxl, wanted: Sequence[Drawing], settings: DrawSettings) -> np.ndarray:
    """Return the engine's pixels (B, H, W, 3), in the order of ``wanted``."""
    drawn = sorted(model.draw(wanted, settings), key=itemgetter(0))
    assert [i for i, _ in drawn] == [*range(len(wanted))]
    return np.stack([np.asarray(image, dtype=int) for _, image in drawn])


def difference(one: np.ndarray, other: np.ndarray) -> int:
    """Return the largest difference of two batches of images, in grey levels."""
    return int(np.abs(one - other).max())


def make_tiny(folder: Path, levels: int = 3, gain: float = 30.0, **more: Any) -> Path:
    """Write a random tiny decoder that enlarges by 2 ** (levels - 1); ``gain`` makes its images lively."""
    torch.manual_seed(0)
    widths, blocks = (8,) * levels, (1,) * levels
    tiny = AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
        **more,
    )
    tiny.decoder.layers[-1].weight.data.mul_(gain)
    tiny.save_pretrained(folder)
    return folder
