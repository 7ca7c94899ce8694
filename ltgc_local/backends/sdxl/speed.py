"""What makes SDXL's modules faster and changes pictures by rounding alone: memory format, fused projections, compiler.

Two ways, because what is fused or compiled cannot also be taken from a store:

- not compiled (on a CPU): the prompts' keys and values are computed once a batch instead of at every step;
- compiled (on a GPU): fused projections, and either each repeated block of the UNet and of the VAE's decoder
  (``regional``: compiles in a fraction of the time) or all of both (``full``). Shapes are static, so
  batches must have one size.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from ltgc_local.backends.sdxl.adapter import FeatureTokens, attentions
from ltgc_local.backends.sdxl.fp8 import to_fp8
from ltgc_local.backends.sdxl.unet import ReusingAttention, TextKeys, set_attention

Compile = Literal["none", "regional", "full"]

#: SDXL's UNet has 2 kinds of transformer block and 12 of resnet block, each on B and on 2B rows; its VAE has 6 more.
#: A process that draws several sizes (a benchmark) has them for each: 64 were too few for three.
_VARIANTS = 256
_BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D")


def speed_up(
    pipeline: Any,
    device: torch.device,
    compile: Compile,
    features: FeatureTokens | None = None,
    unet: Literal["fp8"] | None = None,
) -> TextKeys | None:
    """Prepare UNet and VAE, which are on the device already; return the store of the prompts' keys if there is one.

    Args:
        unet: ``fp8`` changes pictures by more than rounding (``sdxl_fp8``).
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
    if compile == "none":
        store = TextKeys()
        set_attention(pipeline.unet, store, features)
        return store
    for name, attention in attentions(pipeline.unet).items():
        if features is not None and name.endswith(".attn2"):
            attention.set_processor(ReusingAttention(None, features, features.branch(name)))
    torch._dynamo.config.recompile_limit = max(_VARIANTS, torch._dynamo.config.recompile_limit)
    if compile == "full":
        pipeline.unet.compile(dynamic=False)
        pipeline.vae.decoder.compile(dynamic=False)
    else:
        for block in (*pipeline.unet.modules(), *pipeline.vae.decoder.modules()):
            if type(block).__name__ in _BLOCKS:
                block.compile(dynamic=False)
    return None
