"""What is trained of SDXL for a tail: a LoRA on the UNet's attentions, and features as tokens next to the prompt's.

    Z = softmax(Q K^T / sqrt d) V + scale * softmax(Q K'^T / sqrt d) V'              (IP-Adapter, decoupled attention)

K, V come from the prompt's tokens; K', V' from tokens made of an image's features, by projections of their own in every
cross-attention. Differs from IP-Adapter: the features are KMDN's, not CLIP's; V' starts at zero, so an untrained
adapter changes nothing; an image without features has tokens of zeros, whose V' is exactly zero.

The feature tokens follow the prompt's in one sequence, (B, 77 + K, D), so whatever passes prompts on passes them on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from ltgc_local.backends.protocols import AdapterSettings
from ltgc_local.errors import ArtefactError
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.disk import redo_file

LORA, FEATURES = "lora.", "features."  # prefixes of the file's tensors
PROJECTIONS = r"(to_q|to_k|to_v|to_out\.0)"


class FeatureBranch(nn.Module):
    """K' and V' of one cross-attention; K' starts as the attention's own K, and V' at zero."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        inputs, outputs = attention.to_k.in_features, attention.to_k.out_features
        self.to_k = nn.Linear(inputs, outputs, bias=False)
        self.to_v = nn.Linear(inputs, outputs, bias=False)
        with torch.no_grad():
            self.to_k.weight.copy_(attention.to_k.weight)
            self.to_v.weight.zero_()


class FeatureTokens(nn.Module):
    """Maps features (B, F) to tokens (B, K, D), and holds every cross-attention's projections of them."""

    def __init__(self, unet: UNet2DConditionModel, feature_size: int, num_tokens: int) -> None:
        super().__init__()
        self.num_tokens, self.scale = num_tokens, 1.0
        self.width = int(unet.config.cross_attention_dim)
        self.projection = nn.Linear(feature_size, num_tokens * self.width)
        self.norm = nn.LayerNorm(self.width)
        branches = {name: FeatureBranch(each) for name, each in attentions(unet).items() if name.endswith(".attn2")}
        self.branches = nn.ModuleDict({name.replace(".", "-"): branch for name, branch in branches.items()})

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return tokens (B, K, D); those of a row of NaN are zeros, which steer nothing."""
        is_known = ~features.isnan().any(1)
        known = torch.where(is_known[:, None], features, 0)
        tokens: torch.Tensor = self.norm(self.projection(known).unflatten(1, (self.num_tokens, self.width)))
        return tokens * is_known[:, None, None]

    def branch(self, name: str) -> FeatureBranch:
        branch = self.branches[name.replace(".", "-")]  # a module's name may not contain a dot
        assert isinstance(branch, FeatureBranch)
        return branch


def attentions(unet: Any) -> dict[str, Any]:
    """Return the UNet's attentions by name: "….attn1" to the image itself, "….attn2" to the prompt."""
    return {name: module for name, module in unet.named_modules() if name.endswith((".attn1", ".attn2"))}


def add_lora(unet: UNet2DConditionModel, settings: AdapterSettings) -> None:
    """Add a LoRA to a frozen UNet by peft, in float32. It starts as the identity, drawn by torch's global generator."""
    attention = "attn2" if settings.cross_attention else "attn[12]"
    modules = rf".*\.{attention}\.{PROJECTIONS}"
    unet.add_adapter(
        LoraConfig(r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=modules, bias="none")
    )
    for parameter in unet.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def adapter_file(
    unet: UNet2DConditionModel, tokens: FeatureTokens | None, settings: AdapterSettings
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the weights of an adapter, and the metadata that ``fuse_adapter`` reads."""
    weights = {LORA + name: tensor for name, tensor in get_peft_model_state_dict(unet).items()}
    if tokens is not None:
        weights |= {FEATURES + name: tensor for name, tensor in tokens.state_dict().items()}
    facts = {name: getattr(settings, name) for name in ("lora_rank", "lora_alpha", "feature_size", "num_tokens")}
    copies = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
    return copies, {"sdxl_adapter": json.dumps(facts)}


def fuse_adapter(unet: UNet2DConditionModel, path: Path) -> FeatureTokens | None:
    """Add a LoRA's products to the weights that it adapts, so that drawing with it costs nothing.

    Returns:
        The map of features to tokens, in float32 and frozen; None where the adapter has none.

    Raises:
        ArtefactError: the file is damaged, or for another model.
    """
    try:
        weights, facts = read_tensors(path, "sdxl_adapter")
        scale = facts["lora_alpha"] / facts["lora_rank"]
        # Before the LoRA is fused: K' is replaced by the file's, and its shapes are the plain UNet's.
        tokens = None
        if facts["feature_size"] is not None:
            tokens = FeatureTokens(unet, facts["feature_size"], facts["num_tokens"])
            tokens.load_state_dict(_part(weights, FEATURES))
            tokens.requires_grad_(False).eval().float()
        _fuse(unet, _part(weights, LORA), scale)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as problem:
        if is_out_of_memory(problem):
            raise
        raise ArtefactError(f"{path}: not an adapter of this model ({problem}); {redo_file(path)}") from problem
    return tokens


@torch.no_grad()
def _fuse(unet: UNet2DConditionModel, lora: Mapping[str, torch.Tensor], scale: float) -> None:
    """Add scale * B A to every adapted weight W."""
    suffix = ".lora_A.weight"
    for name in [key.removesuffix(suffix) for key in lora if key.endswith(suffix)]:
        weight = unet.get_submodule(name).weight
        product = lora[f"{name}.lora_B.weight"].float() @ lora[f"{name}{suffix}"].float()
        weight.copy_((weight.float() + scale * product.to(weight.device)).to(weight.dtype))


def _part(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
