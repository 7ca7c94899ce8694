"""Role ``backbone`` on timm: images -> (logits, feature maps of one stage), with weights of a local folder or random.

A folder has timm's own layout: config.json with "architecture" (and "pretrained_cfg"), and model.safetensors. The last
layer is always new: its classes are the recipe's.

Differs from TGN's released code, whose hand-written ResNet-50 leaves the four projection shortcuts at random when it
loads ImageNet's weights, because it names them differently: here a missing weight is an error.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, final

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from ltgc_local.backends.protocols import BackboneOptions
from ltgc_local.errors import ModelError
from ltgc_local.model_store.files import read_json

HALF = (0.5, 0.5, 0.5)


@final
class TimmBackbone(nn.Module):
    """A timm network whose ``forward`` also returns the maps of one stage.

    Attributes:
        facts: the options that it takes to build the network again.
        mean, std: normalisation of images in [0, 1], three numbers each: 0.5, or what the weights were trained with.
    """

    def __init__(self, folder: Path | None, options: BackboneOptions) -> None:
        """Build a network, with weights from ``folder`` or, if None, at random.

        Raises:
            ModelError: timm has no such network, it has no such stage or stem, or the folder holds another one.
        """
        super().__init__()
        architecture, stem = options.architecture, options.stem
        if not timm.is_model(architecture):
            close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
            raise ModelError(
                f"timm has no network {architecture!r}" + (f"; closest: {', '.join(close)}" if close else "")
            )
        self.network = timm.create_model(architecture, pretrained=False, num_classes=options.num_classes)
        pretrained = {} if folder is None else self._load(folder, architecture)
        _change_stem(self.network, architecture, stem)
        stages = [stage["module"] for stage in self.network.feature_info]
        feature = options.feature or stages[-1]
        if feature not in stages:
            raise ModelError(f"{architecture} has no stage {feature!r}; its stages: {', '.join(stages)}")
        self._stage = stages.index(feature)
        self.facts = {
            "architecture": architecture,
            "num_classes": options.num_classes,
            "feature": feature,
            "stem": stem,
        }
        self.mean = self.std = HALF
        if options.normalisation == "weights":
            defaults = timm.get_pretrained_cfg(architecture)
            self.mean = tuple(pretrained.get("mean", defaults.mean))
            self.std = tuple(pretrained.get("std", defaults.std))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, C) and the stage's maps (B, D, h, w) of normalised images (B, 3, H, W)."""
        last, (maps,) = self.network.forward_intermediates(images, indices=[self._stage], output_fmt="NCHW")
        return self.network.forward_head(last), maps

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return the stage's maps alone; nothing after the stage is computed."""
        maps: torch.Tensor
        (maps,) = self.network.forward_intermediates(
            images, indices=[self._stage], output_fmt="NCHW", intermediates_only=True, stop_early=True
        )
        return maps

    def reset_classifier(self) -> None:
        """Start the last layer at random again."""
        self.network.reset_classifier(self.facts["num_classes"])

    def _load(self, folder: Path, architecture: str) -> dict[str, Any]:
        """Load a folder's weights except the last layer's; return its "pretrained_cfg"."""
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder / 'config.json'}: not there; a timm folder has one, with its architecture")
        config = read_json(folder / "config.json")
        found = config.get("architecture")
        if found != architecture:
            raise ModelError(
                f"{folder}: weights of {found!r}, but the recipe's architecture is {architecture!r}; "
                "change it or models.backbone"
            )
        head = self.network.default_cfg["classifier"]
        last_layer = tuple(f"{name}." for name in ((head,) if isinstance(head, str) else head))
        stored, own = load_file(folder / "model.safetensors"), self.network.state_dict()
        weights = {name: tensor for name, tensor in stored.items() if not name.startswith(last_layer)}
        wrong = [name for name, tensor in weights.items() if name not in own or own[name].shape != tensor.shape]
        wrong += [name for name in own if name not in weights and not name.startswith(last_layer)]
        if wrong:
            raise ModelError(
                f"{folder}: {len(wrong)} weights of {architecture} are missing or have another shape, such as "
                f"{', '.join(sorted(wrong)[:3])}; copy the folder again"
            )
        self.network.load_state_dict(weights, strict=False)
        pretrained: dict[str, Any] = config.get("pretrained_cfg", {})
        return pretrained


def _change_stem(network: Any, architecture: str, stem: str) -> None:
    if stem == "full":
        return
    if not isinstance(getattr(network, "maxpool", None), nn.Module) or not hasattr(network, "conv1"):
        raise ModelError(f"stem '{stem}' is for ResNets; {architecture} has no such stem: write 'stem: full'")
    network.maxpool = nn.Identity()
    if stem == "small":
        first = network.conv1[0] if isinstance(network.conv1, nn.Sequential) else network.conv1
        first.stride = (1, 1)
