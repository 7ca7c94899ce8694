"""Convolutions whose second derivative is as cheap as the first, and StyleGAN2's blur.

For second derivatives torch uses kernels as large as the maps, and one convolution per group for grouped ones: a path
length at 256 px takes thousands of them. Here the gradients of a convolution, and their gradients, are convolutions
again, as in StyleGAN2-ADA's ``conv2d_gradfix``. Outside ``differentiable_twice`` torch's own convolutions are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

BLUR = (1.0, 3.0, 3.0, 1.0)  # along one axis, before it is divided by its sum
_TWICE: ContextVar[bool] = ContextVar("differentiable_twice", default=False)


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Make the convolutions inside twice differentiable; they are neither compiled nor autocast."""
    token = _TWICE.set(True)
    try:
        yield
    finally:
        _TWICE.reset(token)


def convolve(
    maps: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    transposed: bool = False,
) -> torch.Tensor:
    """Convolve (B, I, H, W) with weights (O, I / groups, k, k), or if ``transposed`` (I, O / groups, k, k)."""
    if torch.compiler.is_compiling() or not _TWICE.get():
        own = F.conv_transpose2d if transposed else F.conv2d
        return own(maps, weight, bias, stride, padding, groups=groups)
    convolved: torch.Tensor = _Convolution.apply(maps, weight, _Geometry(stride, padding, groups, transposed))
    return convolved if bias is None else convolved + bias[:, None, None]


@dataclass(frozen=True)
class _Geometry:
    stride: int
    padding: int
    groups: int
    transposed: bool
    output_padding: tuple[int, int] = (0, 0)

    @property
    def arguments(self) -> tuple[Any, ...]:
        both = (self.stride, self.stride), (self.padding, self.padding), (1, 1)
        return (*both, self.transposed, self.output_padding, self.groups)

    def back(self, inputs: torch.Size, outputs: torch.Size, kernel: torch.Size) -> _Geometry:
        """Return the convolution from gradients of ``outputs`` to those of ``inputs``, with the same weights."""
        if self.transposed:
            return replace(self, transposed=False, output_padding=(0, 0))
        height, width = (
            inputs[axis] - ((outputs[axis] - 1) * self.stride - 2 * self.padding + kernel[axis]) for axis in (2, 3)
        )
        return replace(self, transposed=True, output_padding=(height, width))


class _Convolution(torch.autograd.Function):
    """Bilinear in maps and weights, so each gradient is a convolution or a weight gradient again."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, weight: torch.Tensor, geometry: _Geometry) -> torch.Tensor:
        ctx.geometry = geometry
        ctx.save_for_backward(maps, weight)
        convolved: torch.Tensor = torch.ops.aten.convolution(maps, weight, None, *geometry.arguments)
        return convolved

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            back = ctx.geometry.back(maps.shape, gradient.shape, weight.shape)
            of_maps = _Convolution.apply(gradient, weight, back)
        if ctx.needs_input_grad[1]:
            of_weight = _WeightGradient.apply(gradient, maps, weight, ctx.geometry)
        return of_maps, of_weight, None


class _WeightGradient(torch.autograd.Function):
    """The gradient of a convolution's weights; bilinear in the gradient of its output and in its maps."""

    @staticmethod
    def forward(
        ctx: Any, gradient: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor, geometry: _Geometry
    ) -> torch.Tensor:
        ctx.geometry = geometry
        ctx.save_for_backward(gradient, maps)
        arguments = (None, *geometry.arguments, (False, True, False))
        of_weight: torch.Tensor = torch.ops.aten.convolution_backward(gradient, maps, weight, *arguments)[1]
        return of_weight

    @staticmethod
    def backward(ctx: Any, second: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradient, maps = ctx.saved_tensors
        of_gradient = of_maps = None
        if ctx.needs_input_grad[0]:
            of_gradient = _Convolution.apply(maps, second, ctx.geometry)
        if ctx.needs_input_grad[1]:
            back = ctx.geometry.back(maps.shape, gradient.shape, second.shape)
            of_maps = _Convolution.apply(gradient, second, back)
        return of_gradient, of_maps, None, None


class Blur(nn.Module):
    """Zero-pad maps (B, C, H, W) and blur each channel with a 4 x 4 kernel whose values add up to ``gain``.

    StyleGAN2 has a CUDA operator for it (upfirdn); this runs anywhere and can be differentiated twice, as R1 and the
    path length require. ``pad`` is the padding before and after, in height and width alike: the result is
    (B, C, H + sum(pad) - 3, W + sum(pad) - 3), in the maps' dtype even under autocast.
    """

    kernel: torch.Tensor

    def __init__(self, pad: tuple[int, int], gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor(BLUR) / sum(BLUR)
        self.register_buffer("kernel", gain * torch.outer(taps, taps), persistent=False)
        self.pad = pad

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        before, after = self.pad
        if before != after:
            maps, before = F.pad(maps, (before, after, before, after)), 0
        channels = maps.shape[1]
        kernel = self.kernel.to(maps.dtype).expand(channels, 1, -1, -1)
        with torch.autocast(maps.device.type, enabled=False):
            return convolve(maps, kernel, padding=before, groups=channels)
