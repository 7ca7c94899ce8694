"""TGN's networks: built from a recipe, written to a file, loaded, and applied to images.

The file holds the weights as safetensors and, in its metadata, everything needed to rebuild the network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from PIL import Image
from torch import nn

from ltgc_local.backends.protocols import BackboneOptions
from ltgc_local.backends.registry import find_backend, load_model
from ltgc_local.errors import ArtefactError
from ltgc_local.recipe.inputs import Data
from ltgc_local.recipe.tgn import Backbone, Cdtg
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.disk import redo_file
from ltgc_local.runs.files import Tensors
from ltgc_local.training.images import ImageCache

if TYPE_CHECKING:
    from ltgc_local.backends.timm_backbone import TimmBackbone


@dataclass(frozen=True)
class SquareResize:
    """Resizes to a network's size, bilinear, RGB; the aspect ratio is not kept (released code). Picklable."""

    size_px: int

    def __call__(self, image: Image.Image) -> Image.Image:
        rgb = image.convert("RGB")
        size = (self.size_px, self.size_px)
        return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BILINEAR)


def read_square(images: Sequence[Image.Image], size_px: int, device: torch.device | str) -> torch.Tensor:
    """Return images resized to squares, (B, 3, S, S) in [-1, 1], on a device."""
    pixels = np.stack([np.asarray(image) for image in map(SquareResize(size_px), images)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1


@dataclass(frozen=True)
class Network:
    """A backbone, the normalisation of images in [0, 1] that it was trained with, and its input size."""

    backbone: TimmBackbone
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size_px: int

    @property
    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std (1, 3, 1, 1)."""
        return torch.tensor(self.mean).view(1, 3, 1, 1), torch.tensor(self.std).view(1, 3, 1, 1)

    def to_file(self, kind: str) -> Tensors:
        """Return the file that ``load_network`` reads."""
        facts = {**self.backbone.facts, "mean": self.mean, "std": self.std, "size_px": self.size_px}
        tensors = {name: tensor.detach().cpu() for name, tensor in self.backbone.state_dict().items()}
        return Tensors(kind, tensors, metadata={"network": json.dumps(facts)})


def build_network(settings: Backbone, num_classes: int, feature: str | None, folder: Path | None) -> Network:
    """Build a network from a recipe's block; random weights come from torch's global generator."""
    options = BackboneOptions(
        architecture=settings.architecture,
        num_classes=num_classes,
        feature=feature,
        stem=settings.stem,
        normalisation=settings.normalisation,
    )
    backbone = load_model("backbone", "timm", folder, options)
    return Network(backbone, backbone.mean, backbone.std, settings.size_px)


def load_network(path: Path) -> Network:
    """Load a file that ``Network.to_file`` wrote, in eval mode on the CPU.

    Raises:
        ArtefactError: the file is damaged.
    """
    try:
        weights, facts = read_tensors(path, "network")
        options = BackboneOptions(**{key: facts[key] for key in ("architecture", "num_classes", "feature", "stem")})
        backbone = find_backend("backbone", "timm")(None, options)
        backbone.load_state_dict(weights)
    except (ValueError, KeyError, TypeError, RuntimeError) as problem:
        raise ArtefactError(f"{path}: not a network of this method ({problem}); {redo_file(path)}") from problem
    return Network(backbone.eval(), tuple(facts["mean"]), tuple(facts["std"]), facts["size_px"])


class TailNetwork(nn.Module):
    """The tail network as the generator uses it: frozen, in eval mode, on images (B, 3, H, W) in [-1, 1].

    Gradients reach the images but no weight. Images may have any size that the architecture accepts.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.size_px = network.size_px
        self.backbone = network.backbone
        self._batch_statistics = False
        mean, std = network.normalisation
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, T) of the tail classes by index, and the feature maps (B, D, h, w)."""
        logits, maps = self.backbone(self._normalise(images))
        return logits, maps

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the feature maps (B, D, h, w) alone."""
        return self.backbone.maps(self._normalise(images))

    @torch.inference_mode()
    def pooled_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return the feature maps averaged over places, (B, D), float32, on the CPU."""
        maps = self.features(read_square(images, self.size_px, self.mean.device))
        return maps.float().mean((2, 3)).cpu().clone()

    @torch.inference_mode()
    def probabilities(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return the probabilities of the tail classes by index, (B, T), on the CPU."""
        logits, _ = self(read_square(images, self.size_px, self.mean.device))
        probabilities: torch.Tensor = logits.float().softmax(1).cpu()
        return probabilities

    def use_batch_statistics(self) -> None:
        """Normalise by batch statistics: the released code leaves the network in training mode."""
        self._batch_statistics = True
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, unless ``use_batch_statistics`` was called."""
        return super().train(mode and self._batch_statistics)

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        return ((images + 1) / 2 - self.mean) / self.std


def image_cache(settings: Backbone | Cdtg, folder: Path, data: Data, *, writes: bool = True) -> ImageCache:
    """Return the cache of images decoded for a network of this method; one process of several writes it."""
    preprocessing = f"square {settings.size_px} bilinear\0{data.pixels_by}"
    resize = SquareResize(settings.size_px)
    return ImageCache(resize, preprocessing, folder, settings.in_memory_mib, settings.decode_workers, writes)
