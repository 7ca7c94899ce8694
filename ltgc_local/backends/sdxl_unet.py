"""The UNet within one batch's denoising: what does not change from step to step is computed once.

- Keys and values of the prompts, in every cross-attention, are the same at all steps (exact).
- DeepCache (Ma et al., CVPR 2024, arXiv:2312.00858): features below the first level change slowly, so that of every
  ``cache_interval`` steps only the first computes them; the others compute the first and the last block (an
  approximation; off by default).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from ltgc_local.backends.sdxl_prompts import Embeddings


@dataclass
class TextKeys:
    """Keys and values of each cross-attention for the prompts seen last."""

    prompts: torch.Tensor | None = None
    found: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def of(self, attention: Any, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.prompts is not prompts:
            self.prompts, self.found = prompts, {}
        if id(attention) not in self.found:
            self.found[id(attention)] = (attention.to_k(prompts), attention.to_v(prompts))
        return self.found[id(attention)]


class ReusingAttention:
    """diffusers' ``AttnProcessor2_0`` for SDXL's transformer blocks, with the prompts' keys and values from a store."""

    def __init__(self, store: TextKeys) -> None:
        self._store = store

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
            key, value = attn.to_k(hidden_states), attn.to_v(hidden_states)
        else:
            key, value = self._store.of(attn, encoder_hidden_states)
        heads = [each.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for each in (query, key, value)]
        mixed = F.scaled_dot_product_attention(*heads)  # (B, heads, N, C / heads)
        found: torch.Tensor = attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))
        return found


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
