"""CDTG's training steps: ours against the same networks written plainly, in images per second.

    python -m benchmarks.cdtg --device cpu     # the quickstart's size, 1 minute
    python -m benchmarks.cdtg --device cuda    # 256 px, the published widths, batch 8, a ResNet-50 as tail network

The plain version convolves each image with weights of its own by a grouped convolution, as StyleGAN2's code is usually
ported, and resamples pixels between two Haar transforms, as SWAGAN's does; in float32, channels first, and torch
differentiates it twice. Its step is as StyleGAN2's: images for each of the two losses, real and generated ones through
the discriminator one after the other, and the real images' features anew. All contenders have the same weights, and
their images are checked to be the same. A run is as many steps as there are between two R1 penalties, so that every
penalty is in it as often as in training. Weights are random; the CLIP loss is left out, for its cost is that of
whichever CLIP a card names.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.contest import Contender, time_in_turns
from benchmarks.machine import pick_device
from benchmarks.results import report
from ltgc_local.methods.tgn.cdtg import training as cdtg_training
from ltgc_local.methods.tgn.cdtg.convolution import Blur
from ltgc_local.methods.tgn.cdtg.discriminator import Discriminator
from ltgc_local.methods.tgn.cdtg.generator import Widths
from ltgc_local.methods.tgn.cdtg.layers import ModulatedConv
from ltgc_local.methods.tgn.cdtg.losses import discriminator_loss
from ltgc_local.methods.tgn.cdtg.tail_generator import TailGenerator
from ltgc_local.methods.tgn.cdtg.training import CdtgTraining
from ltgc_local.methods.tgn.cdtg.wavelet import Haar
from ltgc_local.methods.tgn.network import TailNetwork, build_network
from ltgc_local.recipe.tgn import Cdtg, Kmdn
from ltgc_local.training.images import ImageSet

CLASSES = 12
SMALL = Cdtg(size_px=32, style_dim=64, mlp_layers=4, max_channels=32, batch_size=32, clip_weight=0.0, augment="ada")
FULL = Cdtg(clip_weight=0.0, augment="ada")
TOLERANCE = 1e-3  # of images in [-1, 1], float32


def plain_forward(self: ModulatedConv, maps: torch.Tensor, style: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    """Convolve each image with its own weights (the form in which the paper describes it)."""
    batch, inputs, height, width = maps.shape
    weight = self.scale * self.weight[None] * self.modulation(style)[:, None, :, None, None]  # (B, O, I, k, k)
    if self.demodulate:
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    outputs, size = weight.shape[1], weight.shape[-1]
    maps = maps.reshape(1, batch * inputs, height, width)
    if self.blur is not None:
        turned = weight.transpose(1, 2).reshape(batch * inputs, outputs, size, size)
        maps = F.conv_transpose2d(maps, turned, stride=2, groups=batch)
        maps = maps.view(batch, outputs, *maps.shape[-2:])
        return gain * self.blur(maps)
    maps = F.conv2d(maps, weight.view(batch * outputs, inputs, size, size), padding=size // 2, groups=batch)
    return gain * maps.view(batch, outputs, height, width)


def plain_haar(haar: Haar, images: torch.Tensor) -> torch.Tensor:
    a, b = images[..., 0::2, 0::2], images[..., 0::2, 1::2]
    c, d = images[..., 1::2, 0::2], images[..., 1::2, 1::2]
    return torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], 1) / 2


def plain_inverse(haar: Haar, bands: torch.Tensor) -> torch.Tensor:
    ll, lh, hl, hh = bands.chunk(4, 1)
    upper = torch.stack([ll + lh + hl + hh, ll + lh - hl - hh], -1).flatten(-2)
    lower = torch.stack([ll - lh + hl - hh, ll - lh - hl + hh], -1).flatten(-2)
    return torch.stack([upper, lower], -2).flatten(-3, -2) / 2


@cache  # a copy to the GPU would wait for all that it has to do
def plain_blurs(device: torch.device) -> tuple[Blur, Blur]:
    """Return the blurs of halving and of doubling."""
    return Blur((1, 1)).to(device), Blur((2, 1), gain=4).to(device)


def plain_halved(haar: Haar, bands: torch.Tensor) -> torch.Tensor:
    return plain_haar(haar, plain_blurs(bands.device)[0](plain_inverse(haar, bands))[..., ::2, ::2])


def plain_doubled(haar: Haar, bands: torch.Tensor) -> torch.Tensor:
    images = plain_inverse(haar, bands)
    spread = images.new_zeros(*images.shape[:2], images.shape[2], 2, images.shape[3], 2)
    spread[:, :, :, 0, :, 0] = images
    return plain_haar(haar, plain_blurs(bands.device)[1](spread.flatten(2, 3).flatten(3, 4)))


@contextmanager
def plainly() -> Iterator[None]:
    """Put the plain form in the place of ours for a while."""

    def to_images(pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
        return ours(pixels, device).contiguous()

    ours = cdtg_training.to_images
    with (
        patch.object(ModulatedConv, "forward", plain_forward),
        patch.multiple(cdtg_training, to_images=to_images, differentiable_twice=nullcontext),
        patch.multiple(Haar, forward=plain_haar, inverse=plain_inverse, halved=plain_halved, doubled=plain_doubled),
    ):
        yield


class PlainTraining(CdtgTraining):
    """Steps as StyleGAN2's training loop has them."""

    def step(self, step: int, batch: tuple[np.ndarray, torch.Tensor]) -> dict[str, torch.Tensor]:
        settings, (rows, pixels) = self._settings, batch
        images = cdtg_training.to_images(pixels, self.device)
        labels = torch.from_numpy(self._data.labels[rows]).to(self.device)
        with torch.no_grad():
            features = self._tail_network.features(images)
            fakes = self.generator(*self._inputs(labels, features))
        real_logits = self.discriminator(self._augmented(images), labels)
        fake_logits = self.discriminator(self._augmented(fakes), labels)
        self.ada.count(real_logits)
        self._descend("discriminator", discriminator_loss(real_logits, fake_logits))
        if step % settings.r1_every == 0:
            self._r1_step(images, labels)
        self._generator_step(self.generator(*self._inputs(labels, features)), labels)
        if settings.path_weight and step % settings.path_every == 0:
            few = slice(0, max(1, len(labels) // settings.path_batch_shrink))
            self._path_step(labels[few], features[few])
        self.average.update()
        if (step + 1) % settings.ada_every == 0:
            self.ada.adapt(self.ada.signs)
        return {}


def build_training(settings: Cdtg, device: str, kind: type[CdtgTraining] = CdtgTraining) -> CdtgTraining:
    torch.manual_seed(0)
    is_small = settings.size_px <= 32
    kmdn = Kmdn(architecture="test_resnet" if is_small else "resnet50", stem="no_pool" if is_small else "full")
    tail_network = TailNetwork(build_network(kmdn, CLASSES, kmdn.feature, None)).to(device)
    widths = Widths(settings.size_px, CLASSES, settings.style_dim, settings.mlp_layers, settings.mlp_lr,
                    settings.channel_multiplier, settings.max_channels)  # fmt: skip
    with torch.no_grad():
        maps = tail_network.features(torch.zeros(1, 3, settings.size_px, settings.size_px, device=device))
    channels, height, width = maps.shape[1:]
    generator = TailGenerator(widths, settings.fusion, (channels, height, width))
    pixels = torch.randint(0, 256, (8 * CLASSES, 3, settings.size_px, settings.size_px), dtype=torch.uint8)
    images = ImageSet((pixels,), np.repeat(np.arange(CLASSES), 8))
    training = kind(settings, images, generator, Discriminator(widths), tail_network, None, device, 0)
    training.ada.p = 0.3  # what augmentation costs belongs to the step
    return training


def contender(settings: Cdtg, device: str, plain: bool = False) -> Contender:
    training = build_training(settings, device, PlainTraining if plain else CdtgTraining)
    if plain:
        for network in (training.generator, training.discriminator):
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    rows = np.arange(settings.batch_size) % (8 * CLASSES)

    def run() -> None:
        for step in range(settings.r1_every):
            training.step(step, training.gather(rows))

    def run_plainly() -> None:
        with plainly():
            run()

    return Contender(run_plainly if plain else run, settings.r1_every * settings.batch_size)


@torch.no_grad()
def largest_difference(settings: Cdtg, device: str) -> float:
    """Return how far an image of the plain form is from ours, in [-1, 1]."""
    generator = copy.deepcopy(build_training(settings, device).generator)
    random = generator.draw_seeded(range(4), 1.0).to(device)
    labels = torch.arange(4, device=device)
    with torch.backends.cudnn.flags(allow_tf32=False):  # which rounds to 10 bits, by an algorithm of its own for each
        ours = generator(random, labels)
        with plainly():
            plain = generator(random, labels)
    return float((ours - plain).abs().max())


@click.command(help=__doc__)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--rounds", type=int, default=3)
@click.option("--compiled/--not-compiled", default=True, help="On a GPU, also compiled: some minutes of compiling.")
@click.option("--write/--no-write", default=True)
def main(device: str, rounds: int, compiled: bool, write: bool) -> None:
    device = pick_device(device)
    settings = FULL if device == "cuda" else SMALL
    difference = largest_difference(settings, device)
    if difference > TOLERANCE:
        raise click.ClickException(f"the plain form's images differ by {difference:g}")
    contenders: dict[str, Contender] = {
        "plain, float32": contender(settings, device, plain=True),
        "ours, float32": contender(settings, device),
    }
    if device == "cuda":
        fast: dict[str, Any] = {"precision": "bf16"}
        contenders["ours, bf16"] = contender(settings.model_copy(update=fast), device)
        if compiled:
            contenders["ours, bf16, compiled"] = contender(settings.model_copy(update=fast | {"compile": True}), device)
    facts = {
        "size": f"{settings.size_px} px, batch {settings.batch_size}, {settings.max_channels} channels at most",
        "largest difference of plain and our images": f"{difference:.1e}",
    }
    command = f"python -m benchmarks.cdtg {' '.join(sys.argv[1:])}".strip()
    timings = time_in_turns(contenders, device, rounds)
    sections = {"Training": timings}
    report("cdtg", device, sections, unit="images", weights="random", command=command, facts=facts, write=write)


if __name__ == "__main__":
    main()
