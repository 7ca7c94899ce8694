"""Networks of timm with weights of a local folder, or none: images -> (logits, feature maps of one stage).

A folder is as timm's own: config.json with "architecture" (and "pretrained_cfg"), and model.safetensors. The last layer
is always fresh: its classes are the recipe's.

Differs from TGN's released code, whose hand-written ResNet-50 leaves the four projection shortcuts at random when it
loads ImageNet's weights, because it calls them otherwise: here a weight that is missing is an error.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, final

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ltgc_local.errors import BackendError, ModelError
from ltgc_local.model_store import read_json
from ltgc_local.out_of_memory import is_out_of_memory

HALF = (0.5, 0.5, 0.5)


@final
class TimmBackbone(nn.Module):
    """A timm network whose ``forward`` also gives the maps of the stage ``feature``."""

    def __init__(
        self, architecture: str, num_classes: int, feature: str | None, stem: str = "full", folder: Path | None = None
    ) -> None:
        """Build a network.

        Args:
            feature: timm's name of the module, such as ``layer3``; None takes the last stage.
            stem: ``full``, ``no_pool`` or ``small`` (see the recipe).
            folder: of the weights; None starts at random.

        Raises:
            ModelError: timm knows no such network, it has no such stage or stem, or the folder is not its.
        """
        super().__init__()
        if not timm.is_model(architecture):
            close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
            raise ModelError(
                f"timm has no network {architecture!r}" + (f"; closest: {', '.join(close)}" if close else "")
            )
        self.network = timm.create_model(architecture, pretrained=False, num_classes=num_classes)
        if folder is not None:
            self._load(folder, architecture)
        _change_stem(self.network, architecture, stem)
        stages = [stage["module"] for stage in self.network.feature_info]
        feature = feature or stages[-1]
        if feature not in stages:
            raise ModelError(f"{architecture} has no stage {feature!r}; its stages: {', '.join(stages)}")
        self._stage = stages.index(feature)
        self.facts = {
            "architecture": architecture,
            "num_classes": num_classes,
            "feature": feature,
            "stem": stem,
        }

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, C) and the stage's maps (B, D, h, w) of normalised images (B, 3, H, W)."""
        last, (maps,) = self.network.forward_intermediates(images, indices=[self._stage], output_fmt="NCHW")
        return self.network.forward_head(last), maps

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return the stage's maps alone; what comes after it is not computed."""
        (maps,) = self.network.forward_intermediates(
            images, indices=[self._stage], output_fmt="NCHW", intermediates_only=True, stop_early=True
        )
        found: torch.Tensor = maps
        return found

    def reset_classifier(self) -> None:
        """Start the last layer afresh."""
        self.network.reset_classifier(self.facts["num_classes"])

    def _load(self, folder: Path, architecture: str) -> None:
        config = read_config(folder)
        found = config.get("architecture")
        if found != architecture:
            raise ModelError(
                f"{folder}: weights of {found!r}, but the recipe's architecture is {architecture!r}; "
                "change the one or models.backbone"
            )
        head = self.network.default_cfg["classifier"]
        heads = (head,) if isinstance(head, str) else tuple(head)
        weights = {
            name: tensor
            for name, tensor in _read_weights(folder / "model.safetensors").items()
            if not name.startswith(tuple(f"{prefix}." for prefix in heads))
        }
        own = self.network.state_dict()
        wrong = [name for name, tensor in weights.items() if name not in own or own[name].shape != tensor.shape]
        wrong += [name for name in own if name not in weights and not name.startswith(heads)]
        if wrong:
            raise ModelError(
                f"{folder}: {len(wrong)} weights of {architecture} are missing or have another shape, such as "
                f"{', '.join(sorted(wrong)[:3])}; copy the folder again"
            )
        self.network.load_state_dict(weights, strict=False)


def read_config(folder: Path) -> dict[str, Any]:
    """Read a folder's config.json.

    Raises:
        ModelError: it is missing or damaged.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder / 'config.json'}: not there; a timm folder has one, with its architecture")
    return read_json(folder / "config.json")


def _read_weights(file: Path) -> dict[str, torch.Tensor]:
    try:
        weights: dict[str, torch.Tensor] = load_file(file)
    except (OSError, SafetensorError, RuntimeError, MemoryError) as problem:
        if is_out_of_memory(problem):
            raise BackendError(f"{file}: out of memory while it is loaded; end what else uses the memory") from problem
        raise ModelError(f"{file}: cannot be loaded: {problem}; copy it again") from problem
    return weights


def normalisation_of(kind: str, architecture: str, folder: Path | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std (3 numbers each): 0.5 for ``half``, else what the weights were trained with."""
    if kind == "half":
        return HALF, HALF
    config = read_config(folder).get("pretrained_cfg", {}) if folder is not None else {}
    defaults = timm.get_pretrained_cfg(architecture)
    return tuple(config.get("mean", defaults.mean)), tuple(config.get("std", defaults.std))


def _change_stem(network: Any, architecture: str, stem: str) -> None:
    if stem == "full":
        return
    if not isinstance(getattr(network, "maxpool", None), nn.Module) or not hasattr(network, "conv1"):
        raise ModelError(f"stem '{stem}' is for ResNets; {architecture} has no such stem: write 'stem: full'")
    network.maxpool = nn.Identity()
    if stem == "small":
        first = network.conv1[0] if isinstance(network.conv1, nn.Sequential) else network.conv1
        first.stride = (1, 1)
