"""CDTG's generator as it is trained and stored: the conditional generator with the fusion of noise and features.

    z = r * noise + (1 - r) * W f                                                    (TGN, NoiseFeatureFusion)

f are the tail network's layer-3 maps of a real tail image. Differs from the released code: W is trained with the
generator, averaged and saved with it; there it is in no optimiser and no checkpoint, so generation uses a fresh random
one. W learns at the mapping network's rate, equalised like all of StyleGAN2's layers: with thousands of non-negative
inputs, a plain linear map would move z by many times its size in each step of Adam.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn as nn

from ltgc_local.backends.torch_device import with_channels_last
from ltgc_local.errors import ArtefactError
from ltgc_local.methods.tgn.cdtg.generator import Generator, Widths
from ltgc_local.methods.tgn.cdtg.layers import EqualLinear
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.disk import redo_file

FusionForm = Literal["flatten", "pool"]


@dataclass(frozen=True)
class Randomness:
    """All randomness of B images.

    Two noises (B, D) for latents, the layer (B,) from which the second's style is used, and noise for the maps.
    """

    one: torch.Tensor
    other: torch.Tensor
    crossover: torch.Tensor
    maps: list[torch.Tensor]

    def to(self, device: torch.device | str) -> Randomness:
        maps = [noise.to(device) for noise in self.maps]
        return Randomness(self.one.to(device), self.other.to(device), self.crossover.to(device), maps)

    def part(self, rows: slice) -> Randomness:
        return Randomness(self.one[rows], self.other[rows], self.crossover[rows], [noise[rows] for noise in self.maps])


class FeatureFusion(nn.Module):
    """W: ``flatten`` reads every value of the maps (as released), ``pool`` each channel's mean over places."""

    def __init__(self, form: FusionForm, feature_shape: tuple[int, int, int], style_dim: int, lr_factor: float) -> None:
        super().__init__()
        channels, height, width = feature_shape
        inputs = channels * height * width if form == "flatten" else channels
        self.form, self.feature_shape = form, feature_shape
        self.linear = EqualLinear(inputs, style_dim, lr_factor=lr_factor)

    def forward(
        self, noises: Sequence[torch.Tensor], features: torch.Tensor, r: torch.Tensor | float
    ) -> tuple[torch.Tensor, ...]:
        """Fuse each noise (B, D) with maps (B, C, h, w); ``r`` in [0, 1], one or (B, 1), is the noise's share."""
        values = features.flatten(1) if self.form == "flatten" else features.mean((2, 3))
        mapped = (1 - r) * self.linear(values)
        return tuple(r * noise + mapped for noise in noises)


class TailGenerator(nn.Module):
    """Randomness, labels (B,) and features (B, C, h, w) of real images -> images (B, 3, H, W)."""

    def __init__(
        self,
        widths: Widths,
        fusion: FusionForm | None = None,
        feature_shape: tuple[int, int, int] | None = None,
        text_features: torch.Tensor | None = None,
    ) -> None:
        """Build a fresh network; without ``fusion`` images are generated from noise alone."""
        super().__init__()
        self.widths = widths
        self.generator = Generator(widths, text_features)
        self.fusion: FeatureFusion | None = None
        if fusion is not None and feature_shape is not None:
            self.fusion = FeatureFusion(fusion, feature_shape, widths.style_dim, widths.mlp_lr)

    def styles(
        self,
        random: Randomness,
        labels: torch.Tensor,
        features: torch.Tensor | None = None,
        r: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        """Return styles (B, num_latents, D); ``r``, one or (B, 1), is the noise's share in both latents."""
        one, other = random.one, random.other
        if self.fusion is not None and features is not None:
            one, other = self.fusion((one, other), features, r)
        return self.generator.mixed_styles((one, other), labels, random.crossover)

    def forward(
        self,
        random: Randomness,
        labels: torch.Tensor,
        features: torch.Tensor | None = None,
        r: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        return self.generator.synthesise(self.styles(random, labels, features, r), random.maps)

    def draw(self, num: int, style_mixing: float, rng: torch.Generator) -> Randomness:
        """Draw the randomness of ``num`` images, on the device of ``rng``; some images mix two latents' styles."""

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=rng, device=rng.device)

        layers, dim = self.widths.num_latents, self.widths.style_dim
        crossover = torch.randint(1, layers, (num,), generator=rng, device=rng.device)
        is_mixed = torch.rand(num, generator=rng, device=rng.device) < style_mixing
        crossover = torch.where(is_mixed, crossover, layers)
        maps = [normal(num, 1, size, size) for size in self.generator.noise_sizes()]
        return Randomness(normal(num, dim), normal(num, dim), crossover, maps)

    def draw_seeded(self, seeds: Sequence[int], style_mixing: float) -> Randomness:
        """Draw the randomness of images on the CPU, each from its own seed, independently of the batch."""
        each = [self.draw(1, style_mixing, torch.Generator().manual_seed(seed)) for seed in seeds]
        one, other, crossover = (
            torch.cat(part) for part in zip(*((r.one, r.other, r.crossover) for r in each), strict=True)
        )
        maps = [torch.cat(noise) for noise in zip(*(random.maps for random in each), strict=True)]
        return Randomness(one, other, crossover, maps)

    def facts(self) -> dict[str, str]:
        """Return the metadata that ``load_tail_generator`` needs in a file of this network's weights."""
        fusion = None if self.fusion is None else {"form": self.fusion.form, "feature_shape": self.fusion.feature_shape}
        return {"tail_generator": json.dumps({"widths": asdict(self.widths), "fusion": fusion})}


def load_tail_generator(path: Path, device: str) -> TailGenerator:
    """Load a generator in eval mode.

    The file may lack the fusion map's weights, which the released behaviour does not keep: they are then random.

    Raises:
        ArtefactError: the file is damaged or not a generator.
    """
    try:
        tensors, facts = read_tensors(path, "tail_generator")
        fusion = facts["fusion"] or {"form": None, "feature_shape": None}
        shape = fusion["feature_shape"] and tuple(fusion["feature_shape"])
        texts = tensors.get("generator.text_features")
        network = TailGenerator(Widths(**facts["widths"]), fusion["form"], shape, texts)
        missing, unknown = network.load_state_dict(tensors, strict=False)
    except (ValueError, KeyError, TypeError, RuntimeError) as problem:
        raise ArtefactError(f"{path}: no generator ({problem}); {redo_file(path)}") from problem
    if unknown or any(not name.startswith("fusion.") for name in missing):
        raise ArtefactError(f"{path}: not the weights of this generator; {redo_file(path)}")
    return with_channels_last(network.eval(), device)
