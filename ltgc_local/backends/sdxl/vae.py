"""Images to latents and latents to images, with care for what SDXL's VAE is known for: overflow in 16 bits.

Its float16 decoder gives black or NaN images, so a folder that says ``force_upcast`` has its VAE run in float32, as in
the stock pipeline. Any image that still comes out flat or not finite in 16 bits is decoded again in float32, from the
same latents. Nothing is tiled, because tiles show at their seams.

A tiny decoder (diffusers' AutoencoderTiny, such as TAESDXL, https://github.com/madebyollin/taesd) may decode instead of
the VAE; the VAE still encodes what img2img starts from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from ltgc_local.backends.images import is_flat

#: Pixels that go through the VAE at once: its activations take about 2.5 GB per million of them in 16 bits.
PIXELS_AT_ONCE = 4 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PendingDecode:
    """Images on their way from the GPU: the pixels have arrived when ``done`` is; the latents are kept for a retry."""

    latents: torch.Tensor
    pixels: torch.Tensor  # (B, H, W, 3) uint8, on the CPU
    done: torch.cuda.Event | None = None

    def images(self) -> list[Image.Image]:
        if self.done is not None:
            self.done.synchronize()
        return [Image.fromarray(array) for array in self.pixels.numpy()]


class Vae:
    """The VAE of a pipeline, on a device; ``decoder``, if given, decodes in its place."""

    def __init__(self, pipeline: Any, device: torch.device, decoder: Any = None) -> None:
        self._vae, self._device = pipeline.vae, device
        self._decoder: Any = self._vae if decoder is None else decoder
        config = self._vae.config
        self._scaling: float = config.scaling_factor
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        self._shift = (mean, std) if mean is not None and std is not None else None
        if self._vae.dtype == torch.float16 and config.force_upcast:
            _cast(self._vae, torch.float32)

    def encode(self, sources: Sequence[Image.Image], size_px: int, generators: list[torch.Generator]) -> torch.Tensor:
        """Return latents (B, 4, h, w), scaled, sampled from the VAE's posterior; sources are cropped to squares."""
        squares = [ImageOps.fit(each.convert("RGB"), (size_px, size_px), Image.Resampling.LANCZOS) for each in sources]
        pixels = torch.from_numpy(np.stack([np.asarray(square) for square in squares])).permute(0, 3, 1, 2)
        pixels = pixels.to(self._device).float().div(255).mul(2).sub(1).to(self._vae.dtype)  # (B, 3, H, W) in [-1, 1]
        step, found = _at_once(size_px), []
        for start in range(0, len(pixels), step):
            posterior = self._vae.encode(pixels[start : start + step]).latent_dist
            found.append(posterior.sample(generators[start : start + step]))
        latents = torch.cat(found)
        if self._shift is None:
            return latents * self._scaling
        mean, std = self._statistics(latents)
        return (latents - mean) * self._scaling / std

    def start_decode(self, latents: torch.Tensor) -> PendingDecode:
        """Decode scaled latents; on a GPU this returns before it is done."""
        pixels = self._decode(latents)
        if pixels.device.type != "cuda":
            return PendingDecode(latents, pixels)
        arrived = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        arrived.copy_(pixels, non_blocking=True)
        return PendingDecode(latents, arrived, torch.cuda.current_stream().record_event())

    def finish(self, decoding: PendingDecode) -> list[Image.Image]:
        """Wait for the images; those without content are decoded again in float32, if that is another format."""
        images, dtype = decoding.images(), self._decoder.dtype
        flat = [i for i, image in enumerate(images) if is_flat(image)]
        if not flat or dtype == torch.float32:
            return images
        log.warning("draw: %d images came out flat in %s; decoded again in float32", len(flat), dtype)
        latents = decoding.latents[flat]
        _cast(self._decoder, torch.float32)
        try:
            again = PendingDecode(latents, self._decode(latents).cpu()).images()
        finally:
            _cast(self._decoder, dtype)
        for i, image in zip(flat, again, strict=True):
            images[i] = image
        return images

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return pixels (B, H, W, 3) uint8, on the device; an image with a value that is not finite is black."""
        if self._shift is None:
            scaled = latents / self._decoder.config.scaling_factor  # a tiny decoder's is 1
        else:
            mean, std = self._statistics(latents)
            scaled = latents * std / self._scaling + mean
        scaled = scaled.to(self._decoder.dtype)
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        step, found = _at_once(factor * latents.shape[-1]), []
        for part in torch.split(scaled, step):
            (decoded,) = self._decoder.decode(part, return_dict=False)  # (b, 3, H, W) in [-1, 1]
            finite = decoded.isfinite().flatten(1).all(1)[:, None, None, None]
            levels = (decoded * 0.5 + 0.5).clamp(0, 1).float().mul(255).round()  # as the stock image processor does
            found.append(torch.where(finite, levels, 0).to(torch.uint8).permute(0, 2, 3, 1))
        return torch.cat(found).contiguous()

    def _statistics(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._shift is not None
        mean, std = (torch.tensor(each).view(1, -1, 1, 1).to(like.device, like.dtype) for each in self._shift)
        return mean, std


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> None:
    torch.nn.Module.to(module, dtype)  # diffusers' own warns that a cast may be unwanted


def _at_once(size_px: int) -> int:
    return max(1, PIXELS_AT_ONCE // size_px**2)
