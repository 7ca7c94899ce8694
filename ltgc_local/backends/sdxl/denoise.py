"""From noise, or a noised image, to latents: the denoising loop of one batch.

The stock pipelines' steps in the stock order, on the folder's own scheduler, so that the same seed gives the same
picture. Guided steps are one UNet call on 2B rows. What the loop may leave out, if asked: guidance outside an interval
of the steps (Kynkäänniemi et al., NeurIPS 2024, arXiv:2404.07724), and deep features (``sdxl_unet``).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils.torch_utils import randn_tensor

from ltgc_local.backends.protocols import DrawSettings
from ltgc_local.backends.sdxl.prompts import Embeddings
from ltgc_local.backends.sdxl.unet import NoisePredictor


@dataclass(frozen=True)
class Text:
    """What a batch is drawn from: its prompts' embeddings, and the negative prompt's if there is guidance."""

    prompts: Embeddings
    negative: Embeddings | None

    def guided(self) -> Embeddings:
        """Return 2B rows: the negative prompt's, then the prompts'."""
        assert self.negative is not None
        return Embeddings(
            torch.cat([self.negative.hidden, self.prompts.hidden]),
            torch.cat([self.negative.pooled, self.prompts.pooled]),
        )


class Denoiser:
    """Denoises latents (B, 4, h, w) by a UNet and a scheduler."""

    def __init__(self, pipeline: StableDiffusionXLPipeline, device: torch.device) -> None:
        self._unet, self._scheduler, self._device = pipeline.unet, pipeline.scheduler, device
        self._dtype: torch.dtype = pipeline.unet.dtype
        self._pixels: int = pipeline.vae_scale_factor  # of an image's edge in one of its latents'
        self._takes_generator = "generator" in inspect.signature(pipeline.scheduler.step).parameters
        self._embed_guidance = pipeline.get_guidance_scale_embedding

    def is_guided(self, settings: DrawSettings) -> bool:
        """Return whether two predictions are mixed: not where the UNet takes the scale as an input (LCM)."""
        return settings.guidance > 1 and self._unet.config.time_cond_proj_dim is None

    def denoise(
        self,
        text: Text,
        settings: DrawSettings,
        generators: Sequence[torch.Generator],
        source: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return latents (B, 4, h, w), not yet divided by the VAE's scaling factor.

        Args:
            generators: one an image, on the CPU, so that neither batch nor device changes its noise.
            source: latents of the images to start from, scaled; None starts from noise alone.
        """
        scheduler, batch = self._scheduler, len(text.prompts.hidden)
        scheduler.set_timesteps(settings.steps, device=self._device)
        first = 0 if source is None else _first_step(settings) * scheduler.order
        timesteps = scheduler.timesteps
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        latents = self._start(batch, settings, list(generators), source, timesteps[first])
        predict = NoisePredictor(self._unet, settings.cache_interval, self._guidance_input(batch, settings))
        sizes = torch.tensor([[settings.size_px, settings.size_px, 0, 0, settings.size_px, settings.size_px]])
        sizes = sizes.to(self._device, self._dtype).repeat(batch, 1)
        extra = {"generator": list(generators)} if self._takes_generator else {}
        both, twice = (text.guided(), torch.cat([sizes, sizes])) if text.negative is not None else (None, sizes)
        low, high = settings.guidance_interval
        for step in range(first, len(timesteps)):
            t = timesteps[step]
            if both is not None and low <= step / len(timesteps) < high:
                noise = predict(scheduler.scale_model_input(torch.cat([latents, latents]), t), t, both, twice)
                negative, positive = noise.chunk(2)
                noise = negative + settings.guidance * (positive - negative)
            else:
                noise = predict(scheduler.scale_model_input(latents, t), t, text.prompts, sizes)
            latents = scheduler.step(noise, t, latents, **extra, return_dict=False)[0]
        return latents

    def _start(
        self,
        batch: int,
        settings: DrawSettings,
        generators: list[torch.Generator],
        source: torch.Tensor | None,
        t: torch.Tensor,
    ) -> torch.Tensor:
        edge = settings.size_px // self._pixels
        shape = (batch, self._unet.config.in_channels, edge, edge)
        noise: torch.Tensor = randn_tensor(shape, generator=generators, device=self._device, dtype=self._dtype)
        if source is None:
            return noise * float(self._scheduler.init_noise_sigma)
        noised: torch.Tensor = self._scheduler.add_noise(source, noise, t.repeat(batch))
        return noised

    def _guidance_input(self, batch: int, settings: DrawSettings) -> torch.Tensor | None:
        """Return the embedded guidance scale (B, E) of a UNet that was distilled to take it as an input."""
        size = self._unet.config.time_cond_proj_dim
        if size is None:
            return None
        scale = torch.tensor(settings.guidance - 1).repeat(batch)
        embedded: torch.Tensor = self._embed_guidance(scale, embedding_dim=size)
        return embedded.to(self._device, self._dtype)


def _first_step(settings: DrawSettings) -> int:
    return settings.steps - min(int(settings.steps * settings.strength), settings.steps)


def strength_of(noise_share: float, alphas_cumprod: torch.Tensor) -> float:
    """Return the img2img strength at which noise has this share of the amplitude.

        sqrt(1 - abar_t) / (sqrt abar_t + sqrt(1 - abar_t)) = r,    strength = (t + 1) / T

    TGN's r is such a share. Not the share of the variance, and not r itself: on SDXL's schedule r 0.05 is strength
    0.004, 0.5 is 0.355, 0.9 is 0.916.

    Args:
        noise_share: r, from 0 to 1.
        alphas_cumprod: (T,), the schedule's abar, falling.
    """
    abar = alphas_cumprod.double().cpu()
    shares = (1 - abar).sqrt() / (abar.sqrt() + (1 - abar).sqrt())  # rising in t
    reached = int((shares <= noise_share).sum())  # time steps with no more noise
    return reached / len(abar)
