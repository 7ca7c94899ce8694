"""The UNet within one batch's denoising: what does not change from step to step is computed once.

- Keys and values of the prompts, in every cross-attention, are the same at all steps (exact).
- DeepCache (Ma et al., CVPR 2024, arXiv:2312.00858): features below the first level change slowly, so that of every
  ``cache_interval`` steps only the first computes them; the others compute the first and the last block (an
  approximation; off by default).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from ltgc_local.backends.sdxl.adapter import FeatureBranch, FeatureTokens, attentions
from ltgc_local.backends.sdxl.prompts import Embeddings

Keys = tuple[torch.Tensor, ...]


@dataclass
class TextKeys:
    """Keys and values of each cross-attention for the prompts seen last."""

    prompts: torch.Tensor | None = None
    found: dict[int, Keys] = field(default_factory=dict)

    def of(self, attention: Any, prompts: torch.Tensor, compute: Callable[[Any, torch.Tensor], Keys]) -> Keys:
        if self.prompts is not prompts:
            self.prompts, self.found = prompts, {}
        if id(attention) not in self.found:
            self.found[id(attention)] = compute(attention, prompts)
        return self.found[id(attention)]


class ReusingAttention:
    """diffusers' ``AttnProcessor2_0`` for SDXL's transformer blocks, with the prompts' keys and values from a store.

    Where there are features, their tokens follow the prompt's and are attended to by themselves (``sdxl_adapter``).
    """

    def __init__(
        self, store: TextKeys | None, features: FeatureTokens | None = None, branch: FeatureBranch | None = None
    ) -> None:
        """Prepare one attention's processor.

        Args:
            store: None computes keys and values each time: for training, and for the compiler.
            features: with ``branch``, its part for this cross-attention.
        """
        self._store, self._features, self._branch = store, features, branch

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        query = attn.to_q(hidden_states)  # (B, N, C)
        if encoder_hidden_states is None:
            keys: Keys = attn.to_k(hidden_states), attn.to_v(hidden_states)
        elif self._store is None:
            keys = self._keys(attn, encoder_hidden_states)
        else:
            keys = self._store.of(attn, encoder_hidden_states, self._keys)
        query, *keyed = [each.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for each in (query, *keys)]
        mixed = F.scaled_dot_product_attention(query, *keyed[:2])  # (B, heads, N, C / heads)
        if keyed[2:] and self._features is not None:
            mixed = mixed + self._features.scale * F.scaled_dot_product_attention(query, *keyed[2:])
        found: torch.Tensor = attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))
        return found

    def _keys(self, attn: Any, prompts: torch.Tensor) -> Keys:
        """Return keys and values of the prompt's tokens, and of the features' where there are any."""
        if self._features is None or self._branch is None:
            return attn.to_k(prompts), attn.to_v(prompts)
        number = self._features.num_tokens
        text, tokens = prompts[:, :-number], prompts[:, -number:].to(self._branch.to_k.weight.dtype)
        key = attn.to_k(text)
        return key, attn.to_v(text), self._branch.to_k(tokens).to(key.dtype), self._branch.to_v(tokens).to(key.dtype)


def set_attention(unet: Any, store: TextKeys | None, features: FeatureTokens | None) -> None:
    """Put ``ReusingAttention`` into every attention of a UNet."""
    for name, attention in attentions(unet).items():
        branch = features.branch(name) if features is not None and name.endswith(".attn2") else None
        attention.set_processor(ReusingAttention(store, features if branch is not None else None, branch))


class NoisePredictor:
    """Predicts noise for the steps of one batch: ``(latents (R, 4, h, w), timestep, rows) -> (R, 4, h, w)``."""

    def __init__(self, unet: Any, cache_interval: int, condition: torch.Tensor | None = None) -> None:
        self._unet, self._interval, self._condition = unet, cache_interval, condition
        self._deep: torch.Tensor | None = None  # what comes up to the last block
        self._age = 0

    def __call__(
        self, latents: torch.Tensor, timestep: torch.Tensor, rows: Embeddings, sizes: torch.Tensor
    ) -> torch.Tensor:
        added = {"text_embeds": rows.pooled, "time_ids": sizes}
        if self._interval == 1:
            return self._whole(latents, timestep, rows.hidden, added)
        if self._deep is None or self._age == self._interval or len(self._deep) != len(latents):
            catch = self._unet.up_blocks[-1].register_forward_pre_hook(self._keep, with_kwargs=True)
            try:
                self._age = 1
                return self._whole(latents, timestep, rows.hidden, added)
            finally:
                catch.remove()
        self._age += 1
        return self._shallow(latents, timestep, rows.hidden, added)

    def _whole(self, latents: torch.Tensor, timestep: torch.Tensor, hidden: torch.Tensor, added: Any) -> torch.Tensor:
        noise: torch.Tensor = self._unet(
            latents, timestep, hidden, timestep_cond=self._condition, added_cond_kwargs=added, return_dict=False
        )[0]
        return noise

    def _keep(self, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._deep = kwargs["hidden_states"]

    def _shallow(self, latents: torch.Tensor, timestep: torch.Tensor, hidden: torch.Tensor, added: Any) -> torch.Tensor:
        """``UNet2DConditionModel.forward`` with all but the first and the last block left out."""
        unet = self._unet
        emb = unet.time_embedding(unet.get_time_embed(sample=latents, timestep=timestep), self._condition)
        emb = emb + unet.get_aug_embed(emb=emb, encoder_hidden_states=hidden, added_cond_kwargs=added)
        first, last = unet.down_blocks[0], unet.up_blocks[-1]
        sample = unet.conv_in(latents)
        _, skips = first(hidden_states=sample, temb=emb, **_text(first, hidden))
        skips = (sample, *skips)[: len(last.resnets)]
        sample = last(hidden_states=self._deep, temb=emb, res_hidden_states_tuple=skips, **_text(last, hidden))
        noise: torch.Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))
        return noise


def _text(block: Any, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"encoder_hidden_states": hidden} if getattr(block, "has_cross_attention", False) else {}
