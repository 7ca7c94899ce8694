"""Adaptive discriminator augmentation (ADA, Karras et al. 2020): what lets a GAN learn from few images.

The discriminator sees real and generated images changed alike, each change with probability p; p rises while the
discriminator is sure of too many real images, and falls otherwise. Up to p of about 0.8 the generator does not learn
the changes themselves. Differs from StyleGAN2-ADA: all moves are one bilinear sampling at the image's own resolution,
and R1 is taken at the changed image, for torch has no second derivative of sampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import torch
import torch.nn.functional as F

SHIFT = 1 / 8  # largest whole-pixel shift, and deviation of the fractional one, of height and width
SCALE = 0.2  # deviation of the log2 of sizes
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0  # deviations: of values in [-1, 1], and of log2 factors


class AdaptiveProbability:
    """p, moved so that the mean sign of the discriminator's logits of real images, r_t, is ``target``."""

    def __init__(self, target: float, images: int, every: int, most: float) -> None:
        """Start at p = 0.

        Args:
            images: over how many images p may go from 0 to 1.
            every: steps between two changes of p.
            most: what p does not exceed.
        """
        self.target, self.images, self.every, self.most = target, images, every, most
        self.p = 0.0
        self.signs = torch.zeros(2)  # sum of signs and number of images since p last changed
        self.last_r_t = 0.0

    def count(self, real_logits: torch.Tensor) -> None:
        """Take note of the logits (B, 1) of real images."""
        signs = real_logits.detach().sign()
        self.signs = self.signs.to(signs.device) + torch.stack([signs.sum(), torch.ones_like(signs).sum()])

    def adapt(self, signs: torch.Tensor) -> None:
        """Move p by the signs (2,) counted since the last time, of all processes together."""
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
    """Change each image (B, 3, H, W) at random, every kind of change with probability ``p``; differentiable.

    Flips, quarter turns, whole-pixel shifts; then sizes, rotations, stretching, fractional shifts; then brightness,
    contrast, inverted luma, hue, saturation. ``rng`` is on the images' device.
    """
    if p <= 0:
        return images
    theta = _moves(len(images), images.shape[-1], p, rng)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    matrix = _colours(len(images), p, rng)  # (B, 3, 4)
    return torch.einsum("bij,bjhw->bihw", matrix[:, :, :3], moved) + matrix[:, :, 3, None, None]


class _Draws:
    """Random numbers of a batch, on its device; ``chosen`` keeps a value with probability p, else the neutral one."""

    def __init__(self, num: int, rng: torch.Generator) -> None:
        self.num, self.rng, self.device = num, rng, rng.device

    def uniform(self) -> torch.Tensor:
        return torch.rand(self.num, generator=self.rng, device=self.device)

    def normal(self) -> torch.Tensor:
        return torch.randn(self.num, generator=self.rng, device=self.device)

    def chosen(self, values: torch.Tensor, p: float, neutral: float) -> torch.Tensor:
        return torch.where(self.uniform() < p, values, torch.full_like(values, neutral))


def _moves(num: int, size: int, p: float, rng: torch.Generator) -> torch.Tensor:
    """Return maps (B, 2, 3) from places in the changed image to places in the image, in [-1, 1]."""
    draws = _Draws(num, rng)
    flip = draws.chosen(1 - 2 * (2 * draws.uniform()).floor(), p, 1)
    quarter = draws.chosen((4 * draws.uniform()).floor(), p, 0) * (math.pi / 2)
    whole = [draws.chosen(((2 * draws.uniform() - 1) * SHIFT * size).round() * (2 / size), p, 0) for _ in range(2)]
    zoom = draws.chosen(torch.exp2(SCALE * draws.normal()), p, 1)
    # Two rotations with stretching between them: the probability that either is chosen is p.
    either = 1 - math.sqrt(1 - min(p, 1))
    before, after = (draws.chosen((2 * draws.uniform() - 1) * math.pi, either, 0) for _ in range(2))
    stretch = draws.chosen(torch.exp2(SCALE * draws.normal()), p, 1)
    fraction = [draws.chosen(2 * SHIFT * draws.normal(), p, 0) for _ in range(2)]
    maps = _scaled(flip, torch.ones_like(flip)) @ _turned(quarter) @ _shifted(*whole)
    maps = maps @ _scaled(1 / zoom, 1 / zoom) @ _turned(before) @ _scaled(1 / stretch, stretch) @ _turned(after)
    return (maps @ _shifted(*fraction))[:, :2]


def _rows(*rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _scaled(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _rows((x, zero, zero), (zero, y, zero), (zero, zero, one))


def _turned(angle: torch.Tensor) -> torch.Tensor:
    zero, one, cosine, sine = torch.zeros_like(angle), torch.ones_like(angle), angle.cos(), angle.sin()
    return _rows((cosine, -sine, zero), (sine, cosine, zero), (zero, zero, one))


def _shifted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _rows((one, zero, x), (zero, one, y), (zero, zero, one))


def _colours(num: int, p: float, rng: torch.Generator) -> torch.Tensor:
    """Return affine maps of colours, (B, 3, 4): one matrix an image and what is added."""
    draws = _Draws(num, rng)
    grey, colour, cross = _colour_axes(rng.device)
    add = draws.chosen(BRIGHTNESS * draws.normal(), p, 0)
    contrast = draws.chosen(torch.exp2(CONTRAST * draws.normal()), p, 1)
    invert = draws.chosen(1 - 2 * (2 * draws.uniform()).floor(), p, 1)
    hue = draws.chosen((2 * draws.uniform() - 1) * math.pi, p, 0)
    saturation = draws.chosen(torch.exp2(SATURATION * draws.normal()), p, 1)
    # Rodrigues' rotation of the colour plane about the axis of greys.
    turned = hue.cos()[:, None, None] * colour + hue.sin()[:, None, None] * cross
    matrix = invert[:, None, None] * grey + saturation[:, None, None] * turned
    # Brightness is added first: everything after it applies to it, too, and only its part along the greys is there.
    added = (add * contrast * invert)[:, None, None].expand(-1, 3, 1)
    return torch.cat([contrast[:, None, None] * matrix, added], 2)


@cache  # a copy from the CPU would wait for all that the GPU has to do
def _colour_axes(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return three (3, 3): the projections on the axis of greys and off it, and the cross product with that axis."""
    with torch.inference_mode(False):
        luma = torch.full((3,), 1 / math.sqrt(3), device=device)
        grey = torch.outer(luma, luma)
        cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=device) / math.sqrt(3)
        return grey, torch.eye(3, device=device) - grey, cross
