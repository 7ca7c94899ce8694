"""The UNet, faster: what changes images by rounding alone, and DeepCache, which approximates and is off by default.

Two ways, because what is fused or compiled cannot also be taken from a store:

- not compiled (on a CPU): the prompts' keys and values in every cross-attention are computed once per batch instead of
  at every step;
- compiled (on a GPU): fused projections, and either each repeated block of the UNet and of the VAE's decoder
  (``regional``, which compiles in a fraction of the time) or all of both (``full``). Shapes are static, so batches must
  have one size.

DeepCache (Ma et al., CVPR 2024, arXiv:2312.00858): features below the first level change slowly. Of every
``cache_interval`` steps only the first computes them; the others compute the first and the last block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F

from ltgc_local.backends.sdxl.adapter import FeatureBranch, FeatureTokens, attentions
from ltgc_local.backends.sdxl.fp8 import to_fp8
from ltgc_local.backends.sdxl.prompts import Embeddings

Keys = tuple[torch.Tensor, ...]

#: SDXL's UNet has 2 kinds of transformer block and 12 of resnet block, each on B and on 2B rows; its VAE has 6 more.
#: A process that draws several sizes (a benchmark) has them for each: 64 were too few for three.
_VARIANTS = 256
_BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D")


@dataclass
class TextKeys:
    """Keys and values of each cross-attention for the latest prompts."""

    prompts: torch.Tensor | None = None
    found: dict[int, Keys] = field(default_factory=dict)

    def of(self, attention: Any, prompts: torch.Tensor, compute: Callable[[Any, torch.Tensor], Keys]) -> Keys:
        if self.prompts is not prompts:
            self.prompts, self.found = prompts, {}
        if id(attention) not in self.found:
            self.found[id(attention)] = compute(attention, prompts)
        return self.found[id(attention)]


@dataclass(frozen=True, eq=False)
class ReusingAttention:
    """diffusers' ``AttnProcessor2_0`` for one of SDXL's attentions, with the prompts' keys and values from a store.

    Attributes:
        store: None computes keys and values each time: for training, and for the compiler.
        features: whose tokens follow the prompt's and are attended to by themselves (``adapter``).
        branch: the projections of those tokens for this cross-attention.
    """

    store: TextKeys | None
    features: FeatureTokens | None = None
    branch: FeatureBranch | None = None

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
        elif self.store is None:
            keys = self._keys(attn, encoder_hidden_states)
        else:
            keys = self.store.of(attn, encoder_hidden_states, self._keys)
        query, *keyed = [each.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for each in (query, *keys)]
        mixed = F.scaled_dot_product_attention(query, *keyed[:2])  # (B, heads, N, C / heads)
        if keyed[2:] and self.features is not None:
            mixed = mixed + self.features.scale * F.scaled_dot_product_attention(query, *keyed[2:])
        found: torch.Tensor = attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))
        return found

    def _keys(self, attn: Any, prompts: torch.Tensor) -> Keys:
        """Return keys and values of the prompt's tokens, and of the features' where there are any."""
        if self.features is None or self.branch is None:
            return attn.to_k(prompts), attn.to_v(prompts)
        number = self.features.num_tokens
        text, tokens = prompts[:, :-number], prompts[:, -number:].to(self.branch.to_k.weight.dtype)
        key = attn.to_k(text)
        return key, attn.to_v(text), self.branch.to_k(tokens).to(key.dtype), self.branch.to_v(tokens).to(key.dtype)


def set_attention(
    unet: Any, store: TextKeys | None, features: FeatureTokens | None, only_features: bool = False
) -> None:
    """Put ``ReusingAttention`` into every attention of a UNet, or only into those that attend to features."""
    for name, attention in attentions(unet).items():
        if features is not None and name.endswith(".attn2"):
            attention.set_processor(ReusingAttention(store, features, features.branch(name)))
        elif not only_features:
            attention.set_processor(ReusingAttention(store))


def speed_up(
    pipeline: Any,
    device: torch.device,
    compile: Literal["none", "regional", "full"],
    features: FeatureTokens | None,
    unet: Literal["fp8"] | None,
) -> TextKeys | None:
    """Prepare UNet and VAE, already on the device; return the store of the prompts' keys if there is one.

    Args:
        unet: ``fp8`` changes images by more than rounding (``fp8``).
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # static shapes
        torch.set_float32_matmul_precision("high")  # for what is float32: an upcast VAE
    for module in (pipeline.unet, pipeline.vae):
        module.to(memory_format=torch.channels_last)
    if compile != "none":
        pipeline.unet.fuse_qkv_projections()
    if unet == "fp8":
        to_fp8(pipeline.unet)
    store = TextKeys() if compile == "none" else None
    set_attention(pipeline.unet, store, features, only_features=compile != "none")
    if compile == "none":
        return store
    torch._dynamo.config.recompile_limit = max(_VARIANTS, torch._dynamo.config.recompile_limit)
    if compile == "full":
        compiled = [pipeline.unet, pipeline.vae.decoder]
    else:
        every = (*pipeline.unet.modules(), *pipeline.vae.decoder.modules())
        compiled = [block for block in every if type(block).__name__ in _BLOCKS]
    for module in compiled:
        module.compile(dynamic=False)
    return None


class NoisePredictor:
    """Predicts noise for the steps of one batch: ``(latents (R, 4, h, w), timestep, rows) -> (R, 4, h, w)``."""

    def __init__(self, unet: Any, cache_interval: int, condition: torch.Tensor | None = None) -> None:
        self._unet, self._interval, self._condition = unet, cache_interval, condition
        self._deep: torch.Tensor | None = None  # what enters the last block
        self._age = 0

    def __call__(
        self, latents: torch.Tensor, timestep: torch.Tensor, rows: Embeddings, sizes: torch.Tensor
    ) -> torch.Tensor:
        added = {"text_embeds": rows.pooled, "time_ids": sizes}
        if self._deep is not None and self._age < self._interval and len(self._deep) == len(latents):
            self._age += 1
            return self._shallow(latents, timestep, rows.hidden, added)
        hooks = []
        if self._interval > 1:
            self._age = 1
            hooks = [self._unet.up_blocks[-1].register_forward_pre_hook(self._keep, with_kwargs=True)]
        try:
            noise: torch.Tensor = self._unet(
                latents, timestep, rows.hidden, timestep_cond=self._condition, added_cond_kwargs=added,
                return_dict=False,
            )[0]  # fmt: skip
        finally:
            for hook in hooks:
                hook.remove()
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
