"""The smallest complete CDTG: 16 px, real networks of random weights, the miniature CLIP, eight images per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.methods.tgn.cdtg.discriminator import Discriminator
from ltgc_local.methods.tgn.cdtg.generator import Widths
from ltgc_local.methods.tgn.cdtg.losses import ClipJudge
from ltgc_local.methods.tgn.cdtg.tail_generator import TailGenerator
from ltgc_local.methods.tgn.cdtg.training import CdtgTraining
from ltgc_local.methods.tgn.network import TailNetwork, build_network
from ltgc_local.recipe.tgn import Cdtg, Kmdn
from ltgc_local.training.images import ImageSet
from ltgc_local.training.trainer import Trainer

CLIP = Path(__file__).resolve().parents[2] / "data/miniatures/clip"
NUM_TAIL = 3
SMALL: dict[str, Any] = {
    "size_px": 16,
    "style_dim": 16,
    "mlp_layers": 2,
    "max_channels": 8,
    "batch_size": 8,
    "steps": 12,
    "sample_every": 4,
    "r1_every": 3,
    "path_every": 2,
    "augment": "ada",
    "ada_images": 200,
    "ada_every": 2,
    "lr": 0.01,
}


def build_tail_network() -> TailNetwork:
    torch.manual_seed(1)
    settings = Kmdn(architecture="test_resnet", stem="no_pool", size_px=16)
    return TailNetwork(build_network(settings, NUM_TAIL, "layer3", None))


def build_judge() -> ClipJudge:
    names = ("sneaker", "trouser", "bag")
    return ClipJudge(OpenClipVit(CLIP, ModelOptions()), [f"A photo of a {name}" for name in names])


def real_images(num_classes: int = NUM_TAIL) -> ImageSet:
    pixels = torch.randint(0, 256, (8 * num_classes, 3, 16, 16), generator=torch.Generator().manual_seed(2))
    return ImageSet((pixels.byte(),), np.repeat(np.arange(num_classes), 8))


def build_training(num_classes: int = NUM_TAIL, **changes: Any) -> CdtgTraining:
    """Build everything that a training needs, from the same random numbers each time."""
    settings = Cdtg(**(SMALL | changes))
    tail_network = build_tail_network()
    judge = build_judge() if settings.clip_weight else None
    torch.manual_seed(0)
    widths = Widths(settings.size_px, num_classes, settings.style_dim, settings.mlp_layers, settings.mlp_lr,
                    settings.channel_multiplier, settings.max_channels)  # fmt: skip
    shape = tuple(tail_network.features(torch.zeros(1, 3, 16, 16)).shape[1:])
    generator = TailGenerator(widths, settings.fusion if settings.features else None, shape)  # type: ignore[arg-type]
    discriminator = Discriminator(widths, settings.label_fusion)
    return CdtgTraining(settings, real_images(num_classes), generator, discriminator, tail_network, judge, "cpu", 0)


def build_trainer(checkpoint: Path | None = None, **changes: Any) -> tuple[CdtgTraining, Trainer]:
    """Build a training and what runs it; what ends in ``on_…`` is called by the Trainer."""
    hooks = {name: changes.pop(name) for name in tuple(changes) if name.startswith("on_")}
    training = build_training(**changes)
    return training, Trainer(training, checkpoint, changes.get("checkpoint_minutes", 5.0), **hooks)
