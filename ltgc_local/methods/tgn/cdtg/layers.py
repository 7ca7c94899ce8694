"""Layers of StyleGAN2 (Karras et al. 2020): equalised learning rates, modulated convolution, noise.

Every activation is GAIN * leaky_relu(x); the gain keeps the variance. A leaky ReLU commutes with positive factors, so
the gain multiplies the small weights and biases instead of the maps.
"""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from ltgc_local.methods.tgn.cdtg.convolution import Blur, convolve

SLOPE = 0.2  # of the leaky ReLU
GAIN = math.sqrt(2)


class EqualLinear(nn.Module):
    """A linear map (B, I) -> (B, O) whose weights have variance 1 and are scaled when used.

    Every layer thus learns at the same rate, or at ``lr_factor`` times that rate.
    """

    def __init__(
        self, inputs: int, outputs: int, bias: float = 0.0, lr_factor: float = 1.0, activation: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_factor)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_factor))
        gain = GAIN if activation else 1
        self.scale, self.bias_scale = gain * lr_factor / math.sqrt(inputs), gain * lr_factor
        self.activation = activation

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        # The inputs are scaled, not the weights: the fusion map has 134 million of them at 256 px.
        values = F.linear(values * self.scale, self.weight, self.bias * self.bias_scale)
        return F.leaky_relu(values, SLOPE) if self.activation else values


class EqualConv(nn.Module):
    """A convolution with equalised rate, bias and leaky ReLU; ``down`` blurs, then halves height and width."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, down: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = GAIN / math.sqrt(inputs * kernel_size**2)
        self.blur = Blur(((kernel_size + 2) // 2, (kernel_size + 1) // 2)) if down else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight * self.scale, self.bias * GAIN
        if self.blur is not None:
            return F.leaky_relu(convolve(self.blur(maps), weight, bias, stride=2), SLOPE)
        return F.leaky_relu(convolve(maps, weight, bias, padding=weight.shape[-1] // 2), SLOPE)


class ModulatedConv(nn.Module):
    """Scale the input channels by a style, convolve, and rescale each output map to variance 1.

        y_o = d_o sum_i w_oi * (s_i x_i),   d_o = 1 / sqrt(sum_i,k (s_i w_oik)^2 + 1e-8)

    Equivalent to convolving each image with weights of its own, s_i w_oik d_o, without building them. ``up`` doubles
    height and width; ``demodulate=False`` leaves d_o out.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, style_dim: int, demodulate: bool = True, up: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel_size, kernel_size))
        self.modulation = EqualLinear(style_dim, inputs, bias=1.0)
        self.scale, self.demodulate = 1 / math.sqrt(inputs * kernel_size**2), demodulate
        self.blur = Blur((1, 1), gain=4) if up else None

    def forward(self, maps: torch.Tensor, style: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        """Convolve (B, I, H, W) under the styles (B, D) and multiply by ``gain``."""
        weight = self.weight * self.scale  # (O, I, k, k)
        scales = self.modulation(style)  # (B, I)
        maps = maps * (scales * (1 if self.demodulate else gain))[:, :, None, None].to(maps.dtype)
        if self.blur is not None:
            maps = self.blur(convolve(maps, weight.transpose(0, 1), stride=2, transposed=True))
        else:
            maps = convolve(maps, weight, padding=weight.shape[-1] // 2)
        if self.demodulate:
            # In float32 even under autocast: a sum of many squares loses too much precision in bfloat16.
            with torch.autocast(maps.device.type, enabled=False):
                power = scales.float().square() @ weight.float().square().sum((2, 3)).T  # (B, O)
                factors = gain * (power + 1e-8).rsqrt()
            maps = maps * factors[:, :, None, None].to(maps.dtype)
        return maps


class StyledConv(nn.Module):
    """A modulated 3 x 3 convolution, then noise of a learnt strength, bias and leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style_dim, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, maps: torch.Tensor, style: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Convolve (B, I, H, W) under styles (B, D) with noise (B, 1, H', W') of the output's size."""
        maps = self.conv(maps, style, GAIN) + (self.noise_strength * GAIN * noise).to(maps.dtype)
        return F.leaky_relu(maps + (self.bias * GAIN)[:, None, None].to(maps.dtype), SLOPE)


def pixel_norm(values: torch.Tensor) -> torch.Tensor:
    """Bring each row (B, D) to mean square 1."""
    return values * (values.square().mean(1, keepdim=True) + 1e-8).rsqrt()
