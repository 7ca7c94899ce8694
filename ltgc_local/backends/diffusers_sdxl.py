"""Role ``t2i`` on diffusers: Stable Diffusion XL from a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image

from ltgc_local.backends.protocols import DrawSettings, LoadSettings
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype


@final
class DiffusersSdxl:
    """SDXL's text-to-image pipeline. No watermark is ever drawn: it would be a shortcut feature of generated images."""

    def __init__(self, folder: Path, settings: LoadSettings) -> None:
        diffusers_logging.disable_progress_bar()
        device = resolve_device(settings.device)
        has_fp16 = any((folder / "unet").glob("*.fp16.safetensors"))
        self._pipeline = StableDiffusionXLPipeline.from_pretrained(
            folder,
            dtype=resolve_dtype(settings.dtype, device),
            variant="fp16" if has_fp16 else None,
            use_safetensors=True,
            local_files_only=True,
            add_watermarker=False,
        ).to(device)
        self._pipeline.set_progress_bar_config(disable=True)

    @torch.inference_mode()
    def draw(self, prompts: Sequence[str], seeds: Sequence[int], settings: DrawSettings) -> list[Image.Image]:
        """See ``TextToImageModel.draw``: one CPU generator an image, so that the batch does not change the noise."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        result = self._pipeline(
            prompt=list(prompts),
            negative_prompt=[settings.negative_prompt] * len(prompts) if settings.negative_prompt else None,
            height=settings.size_px,
            width=settings.size_px,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=generators,
            output_type="pil",
        )
        return list(result.images)
