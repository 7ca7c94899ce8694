"""SDXL's UNet with float8 matrices, on a CPU: nearly the same images from fewer bytes, compiled or not.

Tolerances: one layer within 5 % of its output's length (3.5 % was found: two operands of 3 bits' mantissa), pictures
within 4 grey levels on average (1.9), where another seed gives 31.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ltgc_local.backends.protocols import DrawSettings, T2iOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.backends.sdxl.fp8 import Fp8Linear, check_fp8, quantise_rows, to_fp8
from ltgc_local.errors import BackendError
from tests.backends.sdxl_stock import FOLDER, WANTED, draw_ours

SETTINGS = DrawSettings(size_px=32, steps=8, guidance=7.0)


@pytest.fixture(scope="module")
def quantised() -> DiffusersSdxl:
    return DiffusersSdxl(FOLDER, T2iOptions(unet="fp8"))


def bytes_of(unet: Any) -> int:
    return sum(each.numel() * each.element_size() for each in (*unet.parameters(), *unet.buffers()))


def layers_of(unet: Any, kind: type) -> dict[str, Any]:
    return {name: layer for name, layer in unet.named_modules() if type(layer) is kind}


def test_rows_are_scaled_by_their_largest_and_rounded_to_three_bits() -> None:
    matrix = torch.tensor([[1.0, -2.0, 0.3], [0.0, 0.0, 0.0], [3e38, 0.0, -3e38]])
    rows, scale = quantise_rows(matrix)
    assert rows.dtype == torch.float8_e4m3fn and scale.dtype == torch.float32
    found = rows.float() * scale
    assert torch.equal(found[0, :2], matrix[0, :2]) and torch.equal(found[1], matrix[1])
    assert found[0, 2] == pytest.approx(0.3, rel=1 / 16), "half a step of 3 bits"
    assert found[2].tolist() == pytest.approx(matrix[2].tolist())
    assert quantise_rows(torch.tensor([[1.0, torch.nan]]))[0].float().isnan().any(), "what is not finite stays so"


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_gives_nearly_what_the_whole_one_gives(dtype: torch.dtype, has_bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 96, bias=has_bias, dtype=dtype)
    x = torch.randn(3, 7, 64, dtype=dtype) * torch.logspace(-3, 3, 7, dtype=dtype)[:, None]  # each token has its scale
    found, expected = Fp8Linear(linear)(x), linear(x)
    assert found.dtype == dtype and found.shape == expected.shape
    for token in range(7):
        off = (found[:, token] - expected[:, token]).float().norm() / expected[:, token].float().norm()
        assert 0 < off < 0.05


def test_only_the_transformer_blocks_are_in_float8_and_the_unet_is_smaller(
    whole: DiffusersSdxl, quantised: DiffusersSdxl
) -> None:
    before, after = whole._pipeline.unet, quantised._pipeline.unet
    changed, kept = layers_of(after, Fp8Linear), layers_of(after, nn.Linear)
    assert changed.keys() | kept.keys() == layers_of(before, nn.Linear).keys()
    assert changed and all(".transformer_blocks." in name for name in changed)
    assert kept and not any(".transformer_blocks." in name for name in kept)
    saved = sum(layer.weight.numel() * 3 - layer.scale.numel() * 4 for layer in changed.values())  # 4 bytes to 1
    assert bytes_of(before) - bytes_of(after) == saved > 0.2 * bytes_of(before)
    assert not any(isinstance(layer, Fp8Linear) for layer in quantised._pipeline.vae.modules())


def test_images_are_nearly_those_of_the_whole_unet(whole: DiffusersSdxl, quantised: DiffusersSdxl) -> None:
    found, expected = (draw_ours(model, WANTED, SETTINGS) for model in (quantised, whole))
    assert 0 < np.abs(found - expected).mean() < 4


@pytest.mark.compiles
def test_compiled_and_fused_it_draws_nearly_the_same() -> None:
    compiled = DiffusersSdxl(FOLDER, T2iOptions(unet="fp8", compile="regional"))
    unet = compiled._pipeline.unet
    assert any(name.endswith("attn1.to_qkv") for name in layers_of(unet, Fp8Linear))
    found = draw_ours(compiled, WANTED, SETTINGS)
    expected = draw_ours(DiffusersSdxl(FOLDER, T2iOptions()), WANTED, SETTINGS)
    assert 0 < np.abs(found - expected).mean() < 4


def test_a_unet_without_such_layers_is_refused(quantised: DiffusersSdxl) -> None:
    with pytest.raises(BackendError, match=r"no layer to change .* type --set models\.unet=null"):
        to_fp8(quantised._pipeline.unet)


@pytest.mark.parametrize(
    ("capability", "dtype", "problem"),
    [
        ((8, 0), torch.bfloat16, r"A100 has no float8; .* 8\.9 or more; type --set models\.unet=null"),
        ((9, 0), torch.float16, r"needs bfloat16 for everything else, not float16; type --set models\.dtype=bfloat16"),
        ((9, 0), torch.bfloat16, None),
    ],
)
def test_a_gpu_that_cannot_is_named_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, problem: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    if problem is None:
        check_fp8(torch.device("cuda"), dtype)
        return
    with pytest.raises(BackendError, match=problem):
        check_fp8(torch.device("cuda"), dtype)


def test_another_process_of_the_same_batches_draws_the_same_images(quantised: DiffusersSdxl) -> None:
    model = load_model("t2i", "diffusers", FOLDER, T2iOptions(unet="fp8"))
    quantised._prompts._known = {}
    assert np.array_equal(draw_ours(model, WANTED, SETTINGS), draw_ours(quantised, WANTED, SETTINGS))


def test_another_batch_changes_images_as_float8_does_and_no_more(quantised: DiffusersSdxl) -> None:
    """Rounding by the batch's size, which no whole model's image shows, tips float8 operands to their neighbours."""
    found = draw_ours(quantised, WANTED, SETTINGS)
    other = draw_ours(quantised, WANTED, replace(SETTINGS, batch_size=2))
    assert np.abs(other - found).mean() < 4
