"""Role ``t2i``: Stable Diffusion XL from a local folder, by an engine of our own on diffusers' components.

It draws the stock pipelines' images from the same seeds (in float32 within a grey level or two of 256), faster: prompts
are encoded once (``prompts``), the loop leaves out what it may (``denoise``), modules are compiled (``unet``), and on a
GPU the next batch is denoised while the last one's images are finished.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

import torch
from diffusers.utils import logging as diffusers_logging
from PIL import Image

from ltgc_local.backends.protocols import AdapterSettings, Drawing, DrawSettings, T2iOptions
from ltgc_local.backends.sdxl.adapter import FeatureTokens, fuse_adapter
from ltgc_local.backends.sdxl.batches import BatchSizeCache
from ltgc_local.backends.sdxl.denoise import Denoiser, cpu_generators, strength_of
from ltgc_local.backends.sdxl.fp8 import check_fp8
from ltgc_local.backends.sdxl.learner import SdxlLearner
from ltgc_local.backends.sdxl.prompts import PromptEncoder
from ltgc_local.backends.sdxl.unet import speed_up
from ltgc_local.backends.sdxl.vae import PendingDecode, Vae
from ltgc_local.backends.sdxl.weights import load_sdxl, load_tiny_decoder
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.seeding import item_seed


@final
class DiffusersSdxl:
    """A ``TextToImageModel``: SDXL's text to image and img2img, with the same weights."""

    def __init__(self, folder: Path, options: T2iOptions) -> None:
        diffusers_logging.disable_progress_bar()
        device = torch.device(resolve_device(options.device))
        dtype = resolve_dtype(options.dtype, str(device))
        if options.unet == "fp8":
            check_fp8(device, dtype)
        pipeline = load_sdxl(folder, dtype, options.few_step, options.text_encoders)
        decoder = None
        if options.tiny_decoder is not None:
            decoder = load_tiny_decoder(folder / options.tiny_decoder, pipeline.vae, dtype)
            decoder.to(device, memory_format=torch.channels_last)
        features = None if options.adapter is None else fuse_adapter(pipeline.unet, options.adapter)
        self._build(pipeline, options, folder.name, features, decoder)

    @classmethod
    def from_pipeline(cls, pipeline: Any, options: T2iOptions, name: str) -> DiffusersSdxl:
        """Take over the modules of a stock pipeline; for benchmarks with random weights."""
        model = cls.__new__(cls)
        model._build(pipeline, options, name)
        return model

    def _build(
        self,
        pipeline: Any,
        options: T2iOptions,
        name: str,
        features: FeatureTokens | None = None,
        decoder: Any = None,
    ) -> None:
        device = torch.device(resolve_device(options.device))
        is_gpu = device.type == "cuda"
        compiled = options.compile or ("regional" if is_gpu else "none")
        pipeline.unet.to(device)
        pipeline.vae.to(device)
        self._pipeline, self._device = pipeline, device
        self._features = None if features is None else features.to(device)
        self._store = speed_up(pipeline, device, compiled, self._features, options.unet)
        self._prompts = PromptEncoder(pipeline, device)
        self._denoiser, self._vae = Denoiser(pipeline, device), Vae(pipeline, device, decoder)
        where = torch.cuda.get_device_name(device) if is_gpu else "CPU"
        self._batches = BatchSizeCache(options.batch_sizes, name, where)
        self._is_padded = compiled != "none"  # to one size: nothing is compiled again for the last batch

    def draw(self, wanted: Sequence[Drawing], settings: DrawSettings) -> Iterator[tuple[int, Image.Image]]:
        with torch.inference_mode():
            self._prompts.prepare([drawing.prompt for drawing in wanted], settings.negative_prompt)
        for has_source in (False, True):
            alike = [i for i, drawing in enumerate(wanted) if (drawing.source is not None) is has_source]
            yield from self._draw_alike(alike, wanted, settings)

    def strength_of(self, noise_share: float) -> float:
        return strength_of(noise_share, self._pipeline.scheduler.alphas_cumprod)

    def learner(self, settings: AdapterSettings, prompts: Sequence[str]) -> SdxlLearner:
        return SdxlLearner(self._pipeline, self._prompts, self._vae, self._device, settings, prompts)

    def _draw_alike(
        self, rest: list[int], wanted: Sequence[Drawing], settings: DrawSettings
    ) -> Iterator[tuple[int, Image.Image]]:
        """Draw batch after batch; a batch's images are yielded when the next one has been started."""
        size = self._batches.largest(settings.size_px, settings.batch_size)
        begun: tuple[list[int], PendingDecode] | None = None
        while rest:
            batch = rest[:size]
            filled = [*batch, *[batch[-1]] * (size - len(batch))] if self._is_padded else batch
            try:
                started = self._start([wanted[i] for i in filled], settings)
            except RuntimeError as problem:
                if not is_out_of_memory(problem):
                    raise
                started = None  # and leave the block: the exception holds what fills the memory
            if started is None:
                self._release_memory()
                size = self._batches.halve(settings.size_px, len(filled))
                continue
            rest = rest[len(batch) :]
            if begun is not None:
                yield from self._finish(*begun)
            begun = batch, started
        if begun is not None:
            yield from self._finish(*begun)

    @torch.inference_mode()
    def _start(self, batch: Sequence[Drawing], settings: DrawSettings) -> PendingDecode:
        prompts, negative = self._prompts.rows([drawing.prompt for drawing in batch]), None
        if self._denoiser.is_guided(settings):
            negative = self._prompts.negative_rows(settings.negative_prompt, prompts)
        if self._features is not None:
            self._features.scale = settings.feature_scale
            missing = torch.full((self._features.projection.in_features,), torch.nan)
            rows = [missing if drawing.features is None else drawing.features.float() for drawing in batch]
            tokens = self._features(torch.stack(rows).to(self._device))
            prompts = prompts.with_tokens(tokens)
            negative = None if negative is None else negative.with_tokens(torch.zeros_like(tokens))
        sources = [drawing.source for drawing in batch if drawing.source is not None]
        latents = None
        if sources:
            # The noise is that of text to image with the same seed, so the VAE's posterior has a seed of its own.
            own = cpu_generators(item_seed(drawing.seed, "encode") for drawing in batch)
            latents = self._vae.encode(sources, settings.size_px, own)
        generators = cpu_generators(drawing.seed for drawing in batch)
        return self._vae.start_decode(self._denoiser.denoise(prompts, negative, settings, generators, latents))

    def _finish(self, batch: list[int], started: PendingDecode) -> Iterator[tuple[int, Image.Image]]:
        with torch.inference_mode():
            images = self._vae.finish(started)
        yield from zip(batch, images[: len(batch)], strict=True)

    def _release_memory(self) -> None:
        if self._store is not None:
            self._store.prompts, self._store.found = None, {}
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
