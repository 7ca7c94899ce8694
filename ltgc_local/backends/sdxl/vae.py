"""Images to latents and latents to images, with what SDXL's VAE is known for: overflow in 16 bits.

Its float16 decoder gives black or NaN images, so a folder that says ``force_upcast`` has its VAE run in float32, as the
stock pipeline does. Any image that still comes out flat or not finite in 16 bits is decoded again in float32, from the
same latents. Nothing is tiled: tiles show at their seams.

A tiny decoder (diffusers' AutoencoderTiny, such as TAESDXL, https://github.com/madebyollin/taesd) may decode in the
VAE's place; the VAE still encodes what img2img starts from.
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

#: Pixels that go through the VAE at once: its activations take about 2.5 GB a million of them in 16 bits.
PIXELS_AT_ONCE = 4 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PendingDecode:
    """Images on their way from the GPU: the pixels are there when ``done`` is; the latents are kept for another try."""

    latents: torch.Tensor
    pixels: torch.Tensor  # (B, H, W, 3) uint8, on the CPU
    done: torch.cuda.Event | None

    def images(self) -> list[Image.Image]:
        if self.done is not None:
            self.done.synchronize()
        return [Image.fromarray(array) for array in self.pixels.numpy()]


class Vae:
    """The VAE of a pipeline, on a device; ``decoder``, if given, decodes in its place."""

    def __init__(self, pipeline: Any, device: torch.device, decoder: Any = None) -> None:
        self._vae, self._device = pipeline.vae, device
        self._decoder: Any = self._vae if decoder is None else decoder
        self._scaling: float = self._vae.config.scaling_factor
        mean, std = getattr(self._vae.config, "latents_mean", None), getattr(self._vae.config, "latents_std", None)
        self._shift = (mean, std) if mean is not None and std is not None else None
        if self._vae.dtype == torch.float16 and self._vae.config.force_upcast:
            _cast(self._vae, torch.float32)

    def encode(self, sources: Sequence[Image.Image], size_px: int, generators: list[torch.Generator]) -> torch.Tensor:
        """Return latents (B, 4, h, w), scaled, drawn from the VAE's posterior; sources are cropped to squares."""
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
        mean, std = self._stretched(latents)
        return (latents - mean) * self._scaling / std

    def start_decode(self, latents: torch.Tensor) -> PendingDecode:
        """Decode scaled latents; on a GPU this returns before it is done."""
        pixels = self._decode(latents)
        if pixels.device.type != "cuda":
            return PendingDecode(latents, pixels, None)
        arrived = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        arrived.copy_(pixels, non_blocking=True)
        return PendingDecode(latents, arrived, torch.cuda.current_stream().record_event())

    def finish(self, pending: PendingDecode) -> list[Image.Image]:
        """Wait for the images; those without content are decoded again in float32, if that is another format."""
        images = pending.images()
        flat = [i for i, image in enumerate(images) if is_flat(image)]
        dtype = self._decoder.dtype
        if flat and dtype != torch.float32:
            log.warning("draw: %d images came out flat in %s; decoded again in float32", len(flat), dtype)
            again = self._in_float32(pending.latents[flat]).images()
            for i, image in zip(flat, again, strict=True):
                images[i] = image
        return images

    def _in_float32(self, latents: torch.Tensor) -> PendingDecode:
        dtype = self._decoder.dtype
        _cast(self._decoder, torch.float32)
        try:
            return PendingDecode(latents, self._decode(latents).cpu(), None)
        finally:
            _cast(self._decoder, dtype)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return pixels (B, H, W, 3) uint8, on the device; an image with a value that is not finite is black."""
        if self._shift is None:
            scaled = latents / self._decoder.config.scaling_factor  # a tiny decoder's is 1
        else:
            mean, std = self._stretched(latents)
            scaled = latents * std / self._scaling + mean
        scaled = scaled.to(self._decoder.dtype)
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        step, found = _at_once(factor * latents.shape[-1]), []
        for start in range(0, len(latents), step):
            decoded = self._decoder.decode(scaled[start : start + step], return_dict=False)[
                0
            ]  # (b, 3, H, W) in [-1, 1]
            finite = decoded.isfinite().flatten(1).all(1)[:, None, None, None]
            levels = (decoded * 0.5 + 0.5).clamp(0, 1).float().mul(255).round()  # as the stock image processor does
            found.append(torch.where(finite, levels, 0).to(torch.uint8).permute(0, 2, 3, 1))
        return torch.cat(found).contiguous()

    def _stretched(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._shift is not None
        mean, std = (torch.tensor(each).view(1, -1, 1, 1).to(like.device, like.dtype) for each in self._shift)
        return mean, std


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> None:
    torch.nn.Module.to(module, dtype)  # diffusers' own warns that a cast may be unwanted


def _at_once(size_px: int) -> int:
    return max(1, PIXELS_AT_ONCE // size_px**2)
