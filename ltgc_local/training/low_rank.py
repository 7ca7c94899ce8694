"""A linear layer with a low-rank update, as one multiplication forward and without the update's traffic.

    y = x (W + s B A)^T + b        W (O, I) frozen, A (r, I) and B (O, r) trained

The textbook form, x W^T + s (x A^T) B^T, reads and writes the layer's output three more times, which costs as much as
the multiplication itself, since a tower's layers are narrow. Here the update is added to the weights, which are few,
and backward multiplies by rank-r matrices only, so no gradient of the size of W is ever made:

    dx = dy (W + s B A),    dA = s (dy B)^T x,    dB = s dy^T (x A^T)

Under autocast the sum is computed in the weights' precision and rounded once, as autocast rounds any trained weight.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


def low_rank_linear(
    values: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    a: torch.Tensor,
    b: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Return x (W + s B A)^T + b, (…, O).

    Args:
        values: x (…, I).
        weight, bias: (O, I) and (O,); they get no gradient.
        a, b: (r, I) and (O, r).
    """
    merged = torch.addmm(weight.detach(), b.detach(), a.detach(), alpha=scaling)
    kind = values.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        values, merged = values.to(dtype), merged.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    found: torch.Tensor = _LowRankLinear.apply(values, merged, bias, a, b, scaling)
    return found


class _LowRankLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        merged: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, merged, a, b)
        ctx.scaling = scaling
        with torch.autocast(values.device.type, enabled=False):
            return F.linear(values, merged, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, merged, a, b = ctx.saved_tensors
        rows, grads = values.flatten(0, -2), grad.flatten(0, -2)  # (N, I), (N, O)
        of_values = of_a = of_b = None
        if ctx.needs_input_grad[0]:
            of_values = grad @ merged
        if ctx.needs_input_grad[3]:
            of_a = ctx.scaling * ((grads @ b.to(grads.dtype)).T @ rows).to(a.dtype)
        if ctx.needs_input_grad[4]:
            of_b = ctx.scaling * (grads.T @ (rows @ a.T.to(rows.dtype))).to(b.dtype)
        return of_values, None, None, of_a, of_b, None
