"""LoRA on CLIP's vision tower through peft, and the check that it adapts what was meant.

The paper states neither rank nor targets. transformers' CLIP has plain linear layers, which peft adapts as they are.
In open_clip's nn.MultiheadAttention, peft's ``all-linear`` silently leaves ``in_proj_weight`` alone and gives
``out_proj`` no gradient. So the attention module itself is the target, and the gradients are checked. peft's own
attention adds ``out_proj``'s update twice, lets frozen weights drift and ignores dropout; ``LoraAttention`` fixes that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear, MultiheadAttention
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from ltgc_local.backends import weights
from ltgc_local.errors import ModelError
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.recipe.learning import Train
from ltgc_local.training.low_rank import low_rank_linear


class LoraLinear(Linear):  # type: ignore[misc]
    """peft's adapted linear layer, computed by ``low_rank_linear``."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        base = self.get_base_layer()
        return _adapted(self, values, base.weight, base.bias)


class LoraAttention(MultiheadAttention):  # type: ignore[misc]
    """peft's adapted attention, with W + s * B A in both projections.

    peft 0.21 merges ``out_proj`` twice: W + 2 s * B A. Its forward pass adds the update to the module's weights and
    subtracts it again, which rounds and which torch.compile cannot follow. Here the module stays as it is.
    """

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        (name,) = adapter_names or self.active_adapters  # there is one adapter
        attention, out_proj = self.get_base_layer(), self.get_base_layer().out_proj
        in_weight = attention.in_proj_weight + self.get_delta_weight(name)
        out_weight = out_proj.get_base_layer().weight + out_proj.get_delta_weight(name)
        del attention.in_proj_weight, out_proj.get_base_layer().weight
        attention.in_proj_weight, out_proj.get_base_layer().weight = in_weight, out_weight
        self.merged_adapters.append(name)

    def forward(self, query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Attend to ``query`` (B, L, D) itself, as a vision tower's blocks do; return that and no weights."""
        attention = self.get_base_layer()
        tokens = query if attention.batch_first else query.transpose(0, 1)
        projected = _adapted(self, tokens, attention.in_proj_weight, attention.in_proj_bias)  # (B, L, 3 D)
        by_head = (*projected.shape[:2], attention.num_heads, -1)
        query, key, value = (part.view(by_head).transpose(1, 2) for part in projected.chunk(3, dim=-1))
        dropout, mask = attention.dropout if self.training else 0.0, kwargs.get("attn_mask")
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        out, base = attention.out_proj, attention.out_proj.get_base_layer()
        mixed = _adapted(out, attended.transpose(1, 2).flatten(2), base.weight, base.bias)
        return (mixed if attention.batch_first else mixed.transpose(0, 1)), None


def _adapted(layer: Any, values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Apply a projection with the adapter that ``layer`` holds: W x + s * B A dropout(x).

    With dropout the update is computed by itself, because only the adapter's inputs are dropped.
    """
    (name,) = layer.active_adapters
    a, b, scaling = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    dropout = layer.lora_dropout[name]
    if layer.training and isinstance(dropout, torch.nn.Dropout):
        whole: torch.Tensor = F.linear(values, weight, bias) + scaling * F.linear(F.linear(dropout(values), a), b)
        return whole
    return low_rank_linear(values, weight, bias, a, b, scaling)


def add_lora(visual: torch.nn.Module, recipe: LtgcRecipe, targets: Mapping[str, str]) -> torch.nn.Module:
    """Wrap the vision tower: everything is frozen except the adapters, which start as the identity.

    Args:
        targets: value of ``train.lora_targets`` -> regular expression of the tower's modules.

    Raises:
        ModelError: the tower has no such modules.
    """
    settings = recipe.train
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=_adapted_modules(visual, targets[settings.lora_targets], settings.lora_blocks),
    )
    config._register_custom_module({torch.nn.MultiheadAttention: LoraAttention, torch.nn.Linear: LoraLinear})
    try:
        adapted: torch.nn.Module = get_peft_model(visual, config)
    except ValueError as problem:
        raise ModelError(f"train: LoRA does not fit the vision tower of models.clip: {problem}") from problem
    return adapted


def _adapted_modules(visual: torch.nn.Module, pattern: str, num_blocks: int | None) -> str | list[str]:
    """Return what peft should adapt: all modules of a pattern, or the names of those in the last blocks.

    Raises:
        ModelError: the tower has fewer blocks.
    """
    if num_blocks is None:
        return pattern
    names = [name for name, _ in visual.named_modules() if re.fullmatch(pattern, name)]
    block_of = {name: int(found[0]) for name in names if (found := re.search(r"\d+", name))}  # the first number
    blocks = sorted(set(block_of.values()))
    if num_blocks > len(blocks):
        raise ModelError(
            f"train: lora_blocks is {num_blocks}, and the vision tower of models.clip has {len(blocks)} blocks; "
            f"type --set train.lora_blocks={len(blocks)} or leave it out"
        )
    return [name for name, block in block_of.items() if block in blocks[-num_blocks:]]


def adapter_state(adapted: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the adapters' tensors alone."""
    return {name: tensor.detach().cpu() for name, tensor in get_peft_model_state_dict(adapted).items()}


def average(tensors: Sequence[torch.Tensor], name: str) -> torch.Tensor:
    """Return the average of K adapters' tensors of one name, or of K heads.

    The adapters, A (r, D_in) and B (D_out, r), become one of rank K r whose update is exactly the average of theirs,
    if it is scaled as they are: it takes K times their ``lora_alpha``.
    """
    if "lora_A" in name:
        return torch.cat(list(tensors), 0)
    if "lora_B" in name:
        return torch.cat(list(tensors), 1) / len(tensors)
    return torch.stack(list(tensors)).mean(0)


def load_adapter(adapted: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put saved adapters into a freshly wrapped tower."""
    set_peft_model_state_dict(adapted, state)


def merge(adapted: Any) -> torch.nn.Module:
    """Return the plain tower with the adapters added to its weights."""
    merged: torch.nn.Module = adapted.merge_and_unload()
    return merged


def check_gradients(classifier: torch.nn.Module, settings: Train) -> None:
    """Check after the first backward pass that adapters and a trained head receive gradients, and nothing else does.

    Raises:
        BackendError: names the parameters that are wrong.
    """
    has_head = settings.head == "text"
    weights.check_gradients(
        "train",
        ((n, p, "lora_" in n or (has_head and n.startswith("head."))) for n, p in classifier.named_parameters()),
        "tower",
    )
