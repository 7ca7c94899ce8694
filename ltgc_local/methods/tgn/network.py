"""A network of this method with the pictures that it reads, as a file: built, written and loaded from what it says.

What is written has the weights as safetensors and, as the file's metadata, all that it takes to build it again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from PIL import Image
from torch import nn

from ltgc_local.backends.protocols import BackboneOptions
from ltgc_local.backends.registry import find_backend, load_model
from ltgc_local.backends.torch_device import with_channels_last
from ltgc_local.errors import ArtefactError
from ltgc_local.recipe.inputs import Data
from ltgc_local.recipe.learning import TrainingOptions
from ltgc_local.recipe.tgn import Backbone
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.disk import redo_file
from ltgc_local.runs.files import Tensors
from ltgc_local.training.images import ImageCache

if TYPE_CHECKING:
    from ltgc_local.backends.timm_backbone import TimmBackbone


@dataclass(frozen=True)
class SquareResize:
    """An RGB image at a network's size, bilinear; proportions are not kept (released code). It pickles."""

    size_px: int

    def __call__(self, image: Image.Image) -> Image.Image:
        rgb = image.convert("RGB")
        size = (self.size_px, self.size_px)
        return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BILINEAR)


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

    def to_file(self, kind: str, weights: dict[str, torch.Tensor] | None = None) -> Tensors:
        """Return the artefact that ``load_network`` reads, of the network's weights or of others of its form."""
        facts = {**self.backbone.facts, "mean": self.mean, "std": self.std, "size_px": self.size_px}
        tensors = {name: tensor.detach().cpu() for name, tensor in (weights or self.backbone.state_dict()).items()}
        return Tensors(kind, tensors, metadata={"network": json.dumps(facts)})


def build_network(settings: Backbone, num_classes: int, feature: str | None, folder: Path | None) -> Network:
    """Build a network of a recipe's block; its random weights come from torch's global generator."""
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
    """Load what ``Network.to_file`` wrote, in eval mode on the CPU.

    Raises:
        ArtefactError: it is damaged.
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

    Gradients reach the images and no weight. Any size that the architecture takes will do.
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

    def use_batch_statistics(self) -> None:
        """Normalise by each batch, as the released code does, which leaves the network in training mode."""
        self._batch_statistics = True
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, unless ``use_batch_statistics`` was called."""
        return super().train(mode and self._batch_statistics)

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        return ((images + 1) / 2 - self.mean) / self.std


def load_tail_network(run: RunDirectory, step: str, device: str) -> TailNetwork:
    """Load the tail network that a step wrote, among the two that distilled each other or alone."""
    path = (run.files(step, "tail") or run.files(step, "network"))[0]
    return with_channels_last(TailNetwork(load_network(path)), device)


def image_cache(settings: TrainingOptions, folder: Path, size_px: int, data: Data) -> ImageCache:
    """Return how images are decoded for a network of this method."""
    preprocessing = f"square {size_px} bilinear\0{data.pixels_by}"
    return ImageCache(SquareResize(size_px), preprocessing, folder, settings.in_memory_mib, settings.decode_workers)
