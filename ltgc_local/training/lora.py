"""LoRA on open_clip's vision tower through peft, and the check that it adapts what was meant.

The paper states neither rank nor targets. peft's ``all-linear`` silently leaves open_clip's ``in_proj_weight`` alone,
and ``out_proj`` alone gets no gradient: so the attention module itself is the target, and the gradients are checked.
peft's own attention adds ``out_proj``'s update twice and lets frozen weights drift: ``LoraAttention`` mends both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import MultiheadAttention
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from ltgc_local.errors import BackendError
from ltgc_local.recipe import Recipe

TARGETS = {
    "attention": r"transformer\.resblocks\.\d+\.attn",
    "attention+mlp": r"transformer\.resblocks\.\d+\.(attn|mlp\.c_fc|mlp\.c_proj)",
}


class LoraAttention(MultiheadAttention):  # type: ignore[misc]
    """peft's adapted attention, with W + s * B A in both projections; its forward pass merges, runs and unmerges.

    peft 0.21 merges ``out_proj`` itself and then by its own adapter: W + 2 s * B A. And it unmerges by
    subtracting, which rounds: here the frozen parameters are put back.
    """

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        (name,) = adapter_names or self.active_adapters  # there is one adapter
        attention, out_proj = self.get_base_layer(), self.get_base_layer().out_proj
        self._frozen = attention.in_proj_weight, out_proj.get_base_layer().weight
        del attention.in_proj_weight, out_proj.get_base_layer().weight
        attention.in_proj_weight = self._frozen[0] + self.get_delta_weight(name)
        out_proj.get_base_layer().weight = self._frozen[1] + out_proj.get_delta_weight(name)
        self.merged_adapters.append(name)

    def unmerge(self) -> None:
        attention = self.get_base_layer()
        del attention.in_proj_weight, attention.out_proj.get_base_layer().weight
        attention.in_proj_weight, attention.out_proj.get_base_layer().weight = self._frozen
        del self._frozen
        self.merged_adapters.clear()


def add_lora(visual: torch.nn.Module, recipe: Recipe) -> torch.nn.Module:
    """Wrap the vision tower: everything is frozen but the adapters, which start as the identity."""
    settings = recipe.train
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=TARGETS[settings.lora_targets],
    )
    config._register_custom_module({torch.nn.MultiheadAttention: LoraAttention})
    adapted: torch.nn.Module = get_peft_model(visual, config)
    return adapted


def adapter_state(adapted: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the adapters' tensors alone."""
    return {name: tensor.detach().cpu() for name, tensor in get_peft_model_state_dict(adapted).items()}


def load_adapter(adapted: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put saved adapters into a freshly wrapped tower."""
    set_peft_model_state_dict(adapted, state)


def merge(adapted: Any) -> torch.nn.Module:
    """Return the plain tower with the adapters added to its weights."""
    merged: torch.nn.Module = adapted.merge_and_unload()
    return merged


def check_gradients(named: Iterable[tuple[str, torch.nn.Parameter]]) -> None:
    """Check after the first backward pass that what trains are adapters and head, and that each gets a gradient.

    Raises:
        BackendError: names the first parameter that is wrong.
    """
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        if "lora_" not in name and not name.startswith("head."):
            raise BackendError(f"train: {name} is trainable and is neither an adapter nor the head")
        if parameter.grad is None:
            raise BackendError(f"train: {name} is trainable and received no gradient")
