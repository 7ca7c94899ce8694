"""From noise, or a noised image, to latents: the denoising loop of one batch.

The stock pipelines' steps in the stock order, on the folder's own scheduler, so the same seed gives the same image.
Guided steps are one UNet call on 2B rows. The loop can leave out guidance outside an interval of the steps
(Kynkäänniemi et al., NeurIPS 2024, arXiv:2404.07724), and deep features (``unet``).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils.torch_utils import randn_tensor

from ltgc_local.backends.protocols import DrawSettings
from ltgc_local.backends.sdxl.prompts import Embeddings
from ltgc_local.backends.sdxl.unet import NoisePredictor


class Denoiser:
    """Denoises latents (B, 4, h, w) by a UNet and a scheduler."""

    def __init__(self, pipeline: StableDiffusionXLPipeline, device: torch.device) -> None:
        self._unet, self._scheduler, self._device = pipeline.unet, pipeline.scheduler, device
        self._dtype: torch.dtype = pipeline.unet.dtype
        self._pixels_per_latent: int = pipeline.vae_scale_factor
        self._takes_generator = "generator" in inspect.signature(pipeline.scheduler.step).parameters
        self._embed_guidance = pipeline.get_guidance_scale_embedding

    def is_guided(self, settings: DrawSettings) -> bool:
        """Return whether two predictions are mixed: not where the UNet takes the scale as an input (LCM)."""
        return settings.guidance > 1 and self._unet.config.time_cond_proj_dim is None

    def denoise(
        self,
        prompts: Embeddings,
        negative: Embeddings | None,
        settings: DrawSettings,
        generators: Sequence[torch.Generator],
        source: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return latents (B, 4, h, w), not yet divided by the VAE's scaling factor.

        Args:
            negative: the negative prompt's rows; None without guidance.
            generators: one per image, on the CPU, so that neither batch nor device changes its noise.
            source: latents of the images to start from, scaled; None starts from noise alone.
        """
        scheduler, batch = self._scheduler, len(prompts.hidden)
        scheduler.set_timesteps(settings.steps, device=self._device)
        timesteps, first = scheduler.timesteps, 0
        if source is not None:
            first = settings.steps - min(int(settings.steps * settings.strength), settings.steps)
            first *= scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        edge = settings.size_px // self._pixels_per_latent
        shape = (batch, self._unet.config.in_channels, edge, edge)
        latents = randn_tensor(shape, generator=list(generators), device=self._device, dtype=self._dtype)
        if source is None:
            latents = latents * float(scheduler.init_noise_sigma)
        else:
            latents = scheduler.add_noise(source, latents, timesteps[first].repeat(batch))
        predict = NoisePredictor(self._unet, settings.cache_interval, self._guidance_input(batch, settings))
        sizes = size_ids(settings.size_px, batch, self._device, self._dtype)
        extra = {"generator": list(generators)} if self._takes_generator else {}
        both, twice = (None, sizes) if negative is None else (negative + prompts, torch.cat([sizes, sizes]))
        low, high = settings.guidance_interval
        for step in range(first, len(timesteps)):
            t = timesteps[step]
            if both is not None and low <= step / len(timesteps) < high:
                noise = predict(scheduler.scale_model_input(torch.cat([latents, latents]), t), t, both, twice)
                without, guided = noise.chunk(2)
                noise = without + settings.guidance * (guided - without)
            else:
                noise = predict(scheduler.scale_model_input(latents, t), t, prompts, sizes)
            latents = scheduler.step(noise, t, latents, **extra, return_dict=False)[0]
        found: torch.Tensor = latents
        return found

    def _guidance_input(self, batch: int, settings: DrawSettings) -> torch.Tensor | None:
        """Return the embedded guidance scale (B, E) of a UNet that was distilled to take it as an input."""
        size = self._unet.config.time_cond_proj_dim
        if size is None:
            return None
        scale = torch.tensor(settings.guidance - 1).repeat(batch)
        embedded: torch.Tensor = self._embed_guidance(scale, embedding_dim=size)
        return embedded.to(self._device, self._dtype)


def size_ids(size_px: int, batch: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return SDXL's conditioning (B, 6) on original size, crop and target size: whole square images."""
    return torch.tensor([[size_px, size_px, 0, 0, size_px, size_px]]).to(device, dtype).repeat(batch, 1)


def cpu_generators(seeds: Iterable[int]) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def strength_of(noise_share: float, alphas_cumprod: torch.Tensor) -> float:
    """Return the img2img strength at which noise has this share of the amplitude.

        sqrt(1 - abar_t) / (sqrt abar_t + sqrt(1 - abar_t)) = r,    strength = (t + 1) / T

    TGN's r is such a share; it is neither a share of the variance nor the strength. On SDXL's schedule r 0.05 is
    strength 0.004, 0.5 is 0.355 and 0.9 is 0.916.

    Args:
        noise_share: r, from 0 to 1.
        alphas_cumprod: (T,), the schedule's abar, falling.
    """
    abar = alphas_cumprod.double().cpu()
    shares = (1 - abar).sqrt() / (abar.sqrt() + (1 - abar).sqrt())  # rising in t
    reached = int((shares <= noise_share).sum())  # time steps with no more noise
    return reached / len(abar)
