"""Adaptive discriminator augmentation (ADA, Karras et al. 2020), which lets a GAN learn from few images.

Real and generated images are augmented alike before the discriminator sees them, each change with probability p; p
rises while the discriminator is sure of too many real images, and falls otherwise. Up to about p = 0.8 the generator
does not learn the changes themselves. Differs from StyleGAN2-ADA: all geometric changes are one bilinear sampling at
the image's own resolution, and R1 is computed at the changed image, because torch has no second derivative of sampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F

SHIFT = 1 / 8  # largest whole-pixel shift, and deviation of the fractional one, relative to height and width
SCALE = 0.2  # deviation of the log2 of sizes
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0  # deviations: of values in [-1, 1], and of log2 factors


class AdaptiveProbability:
    """p, adjusted so that r_t, the mean sign of the discriminator's logits on real images, approaches ``target``."""

    def __init__(self, target: float, images: int, every: int, most: float) -> None:
        """Start at p = 0.

        Args:
            images: the number of images over which p may go from 0 to 1.
            every: steps between two changes of p.
            most: upper limit of p.
        """
        self.target, self.images, self.every, self.most = target, images, every, most
        self.p = 0.0
        self.signs = torch.zeros(2)  # sum of signs and number of images since p last changed
        self.last_r_t = 0.0

    def count(self, real_logits: torch.Tensor) -> None:
        """Record the logits (B, 1) of real images."""
        signs = real_logits.detach().sign()
        self.signs = self.signs.to(signs.device) + torch.stack([signs.sum(), torch.ones_like(signs).sum()])

    def adapt(self, signs: torch.Tensor) -> None:
        """Move p by the signs (2,) counted since the last time, summed over processes."""
        total, number = signs.tolist()
        self.last_r_t = total / number
        direction = math.copysign(1, self.last_r_t - self.target) if self.last_r_t != self.target else 0
        self.p = min(self.most, max(0.0, self.p + direction * number / self.images))
        self.signs = torch.zeros_like(signs)

    def state(self) -> dict[str, torch.Tensor]:
        return {"p": torch.tensor([self.p, self.last_r_t], dtype=torch.float64), "signs": self.signs}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.p, self.last_r_t = state["p"].tolist()
        self.signs = state["signs"]


def augment(images: torch.Tensor, p: float, rng: torch.Generator) -> torch.Tensor:
    """Change each image (B, 3, H, W) at random, each kind of change with probability ``p``; differentiable.

    Flips, quarter turns, whole-pixel shifts; then sizes, rotations, stretching, fractional shifts; then brightness,
    contrast, inverted luma, hue, saturation. ``rng`` is on the images' device.
    """
    if p <= 0:
        return images
    changes = _draw(len(images), images.shape[-1], p, rng)
    grid = F.affine_grid(_moves(changes), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    matrix, added = _colours(changes)
    return torch.baddbmm(added, matrix, moved.flatten(2)).view(images.shape)


@dataclass(frozen=True)
class _Changes:
    """The changes to each image of a batch, (B,) or (2, B); 0 changes nothing."""

    zoom: torch.Tensor  # log2 of sizes
    stretch: torch.Tensor  # log2 of width against height
    fraction: torch.Tensor  # shift, with 2 as the image's size
    brightness: torch.Tensor
    contrast: torch.Tensor  # log2
    saturation: torch.Tensor  # log2
    whole: torch.Tensor  # shift by whole pixels, with 2 as the image's size
    flip: torch.Tensor  # 1 flips
    invert: torch.Tensor  # 1 inverts the luma
    quarter: torch.Tensor  # angle of the quarter turns
    hue: torch.Tensor  # angle
    before: torch.Tensor  # angle of the rotation before stretching
    after: torch.Tensor  # angle of the rotation after it


def _draw(num: int, size: int, p: float, rng: torch.Generator) -> _Changes:
    """Draw a batch's changes, all at once: on a GPU a few random numbers cost as much as many."""
    device = rng.device
    deviations, most = _amounts(device)
    normal = torch.randn(7, num, generator=rng, device=device) * deviations
    uniform = torch.rand(8, num, generator=rng, device=device)
    shifts = ((2 * uniform[:2] - 1) * (SHIFT * size)).round() * (2 / size)
    steps = (uniform[2:5] * most).floor()
    angles = (2 * uniform[5:] - 1) * math.pi
    # Two rotations with stretching in between: at least one is chosen with probability p.
    either = 1 - math.sqrt(1 - min(p, 1))
    chance = torch.rand(15, num, generator=rng, device=device)
    chosen = torch.cat([chance[:13] < p, chance[13:] < either])
    rows = torch.cat([normal, shifts, steps, angles]) * chosen
    return _Changes(
        zoom=rows[0], stretch=rows[1], fraction=rows[2:4], brightness=rows[4], contrast=rows[5], saturation=rows[6],
        whole=rows[7:9], flip=rows[9], invert=rows[10], quarter=rows[11] * (math.pi / 2),
        hue=rows[12], before=rows[13], after=rows[14],
    )  # fmt: skip


@cache  # a copy from the CPU would wait for the GPU's pending work
def _amounts(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the deviations of the normal changes (7, 1), and the number of values of the discrete ones (3, 1)."""
    deviations = [SCALE, SCALE, 2 * SHIFT, 2 * SHIFT, BRIGHTNESS, CONTRAST, SATURATION]
    with torch.inference_mode(False):
        return torch.tensor(deviations, device=device)[:, None], torch.tensor([2.0, 2, 4], device=device)[:, None]


def _moves(changes: _Changes) -> torch.Tensor:
    """Return affine maps (B, 2, 3) from places in the changed image to places in the original, in [-1, 1].

    Flip . quarter turn . whole shift . zoom . rotation . stretching . rotation . fractional shift, multiplied out.
    """
    angles = torch.stack([changes.quarter + changes.before, changes.after, changes.quarter])
    cosine, sine = angles.cos(), angles.sin()
    outer, inner, quarter = torch.stack([cosine, -sine, sine, cosine], -1).view(3, -1, 2, 2)  # each (B, 2, 2)
    sizes = torch.stack([-changes.stretch, changes.stretch], -1) - changes.zoom[:, None]
    linear = (outer * sizes.exp2()[:, None]) @ inner
    shift = quarter @ changes.whole.T[:, :, None] + linear @ changes.fraction.T[:, :, None]
    mirror = torch.stack([1 - 2 * changes.flip, torch.ones_like(changes.flip)], -1)
    return mirror[:, :, None] * torch.cat([linear, shift], 2)


def _colours(changes: _Changes) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a matrix (B, 3, 3) for each image's colours and an offset for all three, (B, 1, 1)."""
    contrast = changes.contrast.exp2()
    luma, chroma = contrast * (1 - 2 * changes.invert), contrast * changes.saturation.exp2()
    # Rodrigues' rotation of the colour plane about the axis of greys.
    parts = torch.stack([luma, chroma * changes.hue.cos(), chroma * changes.hue.sin()], -1)
    matrix = (parts @ _colour_axes(parts.device)).view(-1, 3, 3)
    # Brightness is added first, so the later changes apply to it as well; it lies on the axis of greys.
    return matrix, (luma * changes.brightness)[:, None, None]


@cache
def _colour_axes(device: torch.device) -> torch.Tensor:
    """Return (3, 9): the projections onto the axis of greys and off it, and the cross product with that axis."""
    with torch.inference_mode(False):
        luma = torch.full((3,), 1 / math.sqrt(3), device=device)
        grey = torch.outer(luma, luma)
        cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=device) / math.sqrt(3)
        return torch.stack([grey, torch.eye(3, device=device) - grey, cross]).flatten(1)
