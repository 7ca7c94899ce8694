"""Random changes to a batch of training images, on the batch's device; the randomness comes from a CPU generator."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ltgc_local.backends.torch_device import to_device
from ltgc_local.recipe.learning import ImageTraining

ASPECTS = (3 / 4, 4 / 3)  # width / height of a random crop: torchvision's RandomResizedCrop


class Share(NamedTuple):
    """This process's images of a batch of ``total``. Random numbers are drawn for all, so shares change nothing."""

    total: int
    part: slice = slice(None)


def augment(
    batch: torch.Tensor, settings: ImageTraining, generator: torch.Generator, share: Share | None = None
) -> torch.Tensor:
    """Change a float batch (B, C, H, W) in [0, 1] as the recipe says: flip, shift or crop, then blur, then noise.

    Args:
        share: which images of a larger batch these are; None for all of theirs.
    """
    share = share or Share(len(batch))
    total, part = share.total, share.part
    if settings.augment != "none":
        flipped = torch.rand(total, generator=generator)[part] < 0.5
        batch = torch.where(to_device(flipped.view(-1, 1, 1, 1), batch.device), batch.flip(-1), batch)
    if settings.augment == "flip_crop":
        batch = _shift(batch, generator, share)
    elif settings.augment == "resized_crop":
        batch = _resized_crop(batch, settings.crop_scale, generator, share)
    if settings.blur_px:
        sigma = settings.blur_px * torch.rand(total, generator=generator)
        batch = blur(batch, sigma[part], float(sigma.max()))
    if settings.noise:
        level = settings.noise * torch.rand(total, 1, 1, 1, generator=generator)[part]
        # On the batch's device, or a GPU would wait while the CPU makes a number for each value of the batch.
        seed = int(torch.randint(2**62, (1,), generator=generator))
        on_device = torch.Generator(batch.device).manual_seed(seed)
        values = torch.randn((total, *batch.shape[1:]), generator=on_device, device=batch.device)[part]
        batch = (batch + to_device(level, batch.device) * values).clamp(0, 1)
    return batch


def _shift(batch: torch.Tensor, generator: torch.Generator, share: Share) -> torch.Tensor:
    """Shift each image by up to an eighth of its height, repeating the edge."""
    height, width = batch.shape[-2:]
    most = max(1, height // 8)
    padded = F.pad(batch, (most,) * 4, mode="replicate")
    first = torch.randint(2 * most + 1, (share.total, 2), generator=generator)[share.part]  # (B, 2): y, x
    first = to_device(first, batch.device)
    rows, columns = (
        first[:, i, None] + torch.arange(size, device=batch.device) for i, size in enumerate((height, width))
    )
    images = torch.arange(len(batch), device=batch.device)[:, None, None]
    return padded.movedim(1, -1)[images, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


def _resized_crop(batch: torch.Tensor, smallest: float, generator: torch.Generator, share: Share) -> torch.Tensor:
    """Cut a rectangle of random area, shape and place out of each image and scale it to the image's size, bilinearly.

    Like torchvision's RandomResizedCrop, but of the image at the tower's size, and where torchvision would retry a side
    that is too long, it is cut to the image's.
    """
    area, aspect, x, y = torch.rand(4, share.total, generator=generator)[:, share.part]
    area = smallest + (1 - smallest) * area
    low, high = (math.log(a) for a in ASPECTS)
    aspect = (low + (high - low) * aspect).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)  # shares of the image's
    theta = torch.zeros(len(batch), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width, height
    theta[:, 0, 2], theta[:, 1, 2] = (2 * x - 1) * (1 - width), (2 * y - 1) * (1 - height)
    grid = F.affine_grid(to_device(theta, batch.device), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)


def blur(batch: torch.Tensor, sigma: torch.Tensor, largest: float | None = None) -> torch.Tensor:
    """Blur each image (B, C, H, W) by a Gaussian of its own standard deviation, ``sigma`` (B,) in pixels.

    Args:
        largest: cut all kernels off where this one's is cut off; None for the largest of ``sigma``.
    """
    num, channels, height, width = batch.shape
    reach = min(math.ceil(3 * (float(sigma.max()) if largest is None else largest)), height - 1, width - 1)
    at = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (at / sigma.clamp(min=1e-3)[:, None]) ** 2)
    weights = to_device(weights / weights.sum(1, keepdim=True), batch.device)  # (B, 2 reach + 1)
    kernel = weights.repeat_interleave(channels, 0)[:, None, None]  # (B * C, 1, 1, 2 reach + 1)
    flat = F.pad(batch.reshape(1, num * channels, height, width), (reach,) * 4, mode="replicate")
    flat = F.conv2d(flat, kernel, groups=num * channels)
    return F.conv2d(flat, kernel.transpose(2, 3), groups=num * channels).view_as(batch)
