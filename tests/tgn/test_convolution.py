from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from ltgc_local.methods.tgn.cdtg.convolution import convolve, differentiable_twice

FORMS = [  # stride, padding, groups, transposed
    (1, 1, 1, False),
    (2, 0, 1, False),
    (2, 1, 1, False),
    (1, 2, 2, False),
    (2, 0, 1, True),
    (1, 1, 2, True),
]


def inputs(groups: int, transposed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    maps = torch.randn(2, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    shape = (4, 6 // groups, 3, 3) if transposed else (6, 4 // groups, 3, 3)
    return maps, torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("stride", "padding", "groups", "transposed"), FORMS)
def test_both_derivatives_are_those_of_a_convolution(stride: int, padding: int, groups: int, transposed: bool) -> None:
    maps, weight = inputs(groups, transposed)

    def ours(maps: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        with differentiable_twice():
            return convolve(maps, weight, None, stride, padding, groups, transposed)

    stock = F.conv_transpose2d if transposed else F.conv2d
    torch.testing.assert_close(ours(maps, weight), stock(maps, weight, None, stride, padding, groups=groups))
    assert torch.autograd.gradcheck(ours, (maps, weight))
    assert torch.autograd.gradgradcheck(ours, (maps, weight))


def test_a_bias_is_added_and_trains() -> None:
    maps, weight = inputs(1, False)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    with differentiable_twice():
        ours = convolve(maps, weight, bias, padding=1)
    torch.testing.assert_close(ours, F.conv2d(maps, weight, bias, padding=1))
    (gradient,) = torch.autograd.grad(ours.sum(), bias)
    torch.testing.assert_close(gradient, torch.full_like(bias, 2 * 7 * 6))


def convolutions_of_second_derivative(channels: int) -> int:
    maps = torch.randn(2, channels, 9, 9, requires_grad=True)
    kernel = torch.ones(channels, 1, 4, 4)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        with differentiable_twice():
            blurred = convolve(maps, kernel, groups=channels)
        (gradient,) = torch.autograd.grad(blurred.square().sum(), maps, create_graph=True)
        gradient.square().sum().backward()  # type: ignore[no-untyped-call]
    return sum(event.count for event in seen.key_averages() if event.key == "aten::_convolution")


def test_a_second_derivative_takes_no_convolution_a_channel() -> None:
    """torch's own takes one a group more, which a GPU spends most of a path length on."""
    assert convolutions_of_second_derivative(64) == convolutions_of_second_derivative(4) <= 6
