"""Role ``t2i`` on diffusers: Stable Diffusion XL from a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image, ImageOps

from ltgc_local.backends.protocols import DrawSettings, LoadSettings
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype
from ltgc_local.seeding import item_seed


@final
class DiffusersSdxl:
    """SDXL's text-to-image and img2img pipelines, of the same weights.

    No watermark is ever drawn: it would be a shortcut feature of generated images.
    """

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
        size = {"height": settings.size_px, "width": settings.size_px}
        return list(self._pipeline(**_arguments(prompts, seeds, settings), **size).images)

    @torch.inference_mode()
    def draw_from(
        self, sources: Sequence[Image.Image], prompts: Sequence[str], seeds: Sequence[int], settings: DrawSettings
    ) -> list[Image.Image]:
        """See ``TextToImageModel.draw_from``. The noise is that of ``draw`` with the same seed.

        That is why the source is encoded by itself: the pipeline would sample the VAE's posterior from the generator
        first, and the noise after it.
        """
        pipeline, size = self._img2img, (settings.size_px, settings.size_px)
        squares = [ImageOps.fit(source.convert("RGB"), size, Image.Resampling.LANCZOS) for source in sources]
        latents = pipeline.prepare_latents(
            pipeline.image_processor.preprocess(squares),
            None,
            len(squares),
            1,
            pipeline.unet.dtype,
            pipeline.device,
            generator=_generators([item_seed(seed, "encode") for seed in seeds]),
            add_noise=False,
        )  # (B, 4, size / 8, size / 8)
        arguments = _arguments(prompts, seeds, settings)
        return list(pipeline(image=latents, strength=settings.strength, **arguments).images)

    @cached_property
    def _img2img(self) -> StableDiffusionXLImg2ImgPipeline:
        # Not from_pipe: it casts the components that both share to float32 unless told otherwise.
        pipeline = StableDiffusionXLImg2ImgPipeline(
            **self._pipeline.components,
            force_zeros_for_empty_prompt=self._pipeline.config.force_zeros_for_empty_prompt,
            add_watermarker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def _arguments(prompts: Sequence[str], seeds: Sequence[int], settings: DrawSettings) -> dict[str, Any]:
    """Return what both pipelines are told."""
    return {
        "prompt": list(prompts),
        "negative_prompt": [settings.negative_prompt] * len(prompts) if settings.negative_prompt else None,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "generator": _generators(seeds),
        "output_type": "pil",
    }


def _generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
