"""The low-rank linear layer against its textbook form, in values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ltgc_local.training.low_rank import low_rank_linear

SCALING = 0.5
Tensors = list[torch.Tensor]


def build(dtype: torch.dtype, has_bias: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, Tensors]:
    """Return values (2, 3, 5), W (4, 5), b (4,) and what trains: A (2, 5), B (4, 2)."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    values, weight, bias = draw(2, 3, 5).requires_grad_(), draw(4, 5), draw(4)
    return values, weight, bias if has_bias else None, [draw(2, 5).requires_grad_(), draw(4, 2).requires_grad_()]


def textbook(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor):  # type: ignore[no-untyped-def]
    return F.linear(values, weight, bias) + SCALING * F.linear(F.linear(values, a), b)


@pytest.mark.parametrize("has_bias", [True, False])
def test_values_and_gradients_are_the_textbooks(has_bias: bool) -> None:
    values, weight, bias, (a, b) = build(torch.float64, has_bias)
    ours = low_rank_linear(values, weight, bias, a, b, SCALING)
    theirs = textbook(values, weight, bias, a, b)
    assert torch.allclose(ours, theirs, atol=1e-12)
    cotangent = torch.randn(ours.shape, dtype=ours.dtype, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(ours, [values, a, b], cotangent)
    expected = torch.autograd.grad(theirs, [values, a, b], cotangent)
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(found, expected, strict=True))


def test_gradients_are_the_differences_of_values() -> None:
    values, weight, bias, (a, b) = build(torch.float64)
    assert torch.autograd.gradcheck(
        lambda values, a, b: low_rank_linear(values, weight, bias, a, b, SCALING), (values, a, b)
    )


def test_frozen_weights_get_no_gradient_and_frozen_values_ask_for_none() -> None:
    values, weight, bias, (a, b) = build(torch.float32)
    weight.requires_grad_()
    low_rank_linear(values.detach(), weight, bias, a, b, SCALING).sum().backward()
    assert weight.grad is None and values.grad is None
    assert a.grad is not None and b.grad is not None


def test_under_autocast_values_are_bf16_and_gradients_have_their_parameters_type() -> None:
    values, weight, bias, (a, b) = build(torch.float32)
    exact = textbook(values, weight, bias, a, b)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = low_rank_linear(values, weight, bias, a, b, SCALING)
    assert rounded.dtype == torch.bfloat16
    assert torch.allclose(rounded.float(), exact, rtol=0.05, atol=0.05)  # bf16 keeps 8 bits
    expected = torch.autograd.grad(exact.square().sum(), [values, a, b])
    found = torch.autograd.grad(rounded.float().square().sum(), [values, a, b])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.05 * other.norm()
