"""The matrices of a UNet's transformer blocks in float8: half the bytes of bfloat16. Not timed on a GPU yet.

    y = x W^T + b  ~  (s_x q(x / s_x)) (s_w q(W / s_w))^T + b        q: to float8 e4m3, nearest; s: largest / 448

One scale per row of weights, computed once, and one per token, computed at each call (as LLM.int8() does without its
outliers; the format is from Micikevicius et al. 2022, arXiv:2209.05433). Convolutions, embeddings of time and text,
normalisations and projections into and out of the blocks stay whole. Rounding depends on the batch size and can tip an
operand to its neighbour: images of other batch sizes differ about as much as float8's do from whole ones.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import ScalingType

from ltgc_local.errors import BackendError

FORMAT = torch.float8_e4m3fn
LARGEST = 448.0  # torch.finfo(FORMAT).max
SMALLEST_ROW = 1e-12  # a row below it is zeros; its scale stays a normal number
MULTIPLE = 16  # of the widths that a GPU's float8 product takes
CAPABILITY = (8, 9)  # Ada and Hopper, the first GPUs that multiply float8
UNSET = "type --set models.unet=null"


class Fp8Linear(nn.Module):
    """A linear layer, (…, I) to (…, O), with float8 operands; the output has the input's dtype."""

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantise_rows(linear.weight.detach())
        self.register_buffer("weight", weight)  # (O, I)
        self.register_buffer("scale", scale.t())  # (1, O)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, scale = quantise_rows(x.flatten(0, -2))
        found = F.scaled_mm(
            rows, self.weight.t(), scale, ScalingType.RowWise, self.scale, ScalingType.RowWise,
            bias=self.bias, output_dtype=x.dtype, use_fast_accum=x.is_cuda,
        )  # fmt: skip
        return found.reshape(*x.shape[:-1], -1)


def quantise_rows(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a matrix (N, D) in float8, and the scales (N, 1), float32, that its rows are multiplied by."""
    exact = matrix.float()
    scale = exact.abs().amax(-1, keepdim=True).clamp(min=SMALLEST_ROW) / LARGEST
    return (exact / scale).clamp(-LARGEST, LARGEST).to(FORMAT), scale


def check_fp8(device: torch.device, dtype: torch.dtype) -> None:
    """Refuse what float8 products cannot run on.

    Raises:
        BackendError: a GPU older than Ada and Hopper, or one whose other weights are not bfloat16.
    """
    if device.type != "cuda":
        return
    if torch.cuda.get_device_capability(device) < CAPABILITY:
        name = torch.cuda.get_device_name(device)
        raise BackendError(f"{name} has no float8; models.unet: fp8 needs compute capability 8.9 or more; {UNSET}")
    if dtype != torch.bfloat16:
        raise BackendError(
            f"models.unet: fp8 needs bfloat16 for everything else, not {str(dtype).removeprefix('torch.')}; type --set "
            f"models.dtype=bfloat16, or {UNSET}"
        )


def to_fp8(unet: Any) -> None:
    """Replace each linear layer of the transformer blocks in place.

    Raises:
        BackendError: none of them is whole and wide enough.
    """
    blocks = [module for module in unet.modules() if type(module).__name__ == "BasicTransformerBlock"]
    layers = [(block, name, layer) for block in blocks for name, layer in block.named_modules()]
    fitting = [
        (block, name, layer)
        for block, name, layer in layers
        if type(layer) is nn.Linear and layer.in_features % MULTIPLE == layer.out_features % MULTIPLE == 0
    ]
    if not fitting:
        raise BackendError(
            "models.unet: fp8 found no layer to change in the UNet: its weights are already quantised, or their widths "
            f"are not multiples of {MULTIPLE}; {UNSET}"
        )
    for block, name, layer in fitting:
        block.set_submodule(name, Fp8Linear(layer))
