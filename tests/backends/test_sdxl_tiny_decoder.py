"""A tiny decoder instead of SDXL's VAE: the stock pipeline's images with it, and what is refused.

Its weights are random, in the publishers' layout (``config.json`` and ``diffusion_pytorch_model.safetensors``).
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from ltgc_local.backends.protocols import DrawSettings, T2iOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.errors import ModelError
from tests.backends.sdxl_stock import FOLDER, WANTED, difference, draw_ours, draw_stock, load_stock, make_tiny

SETTINGS = DrawSettings(size_px=32, steps=4, guidance=7.0)
TINY = T2iOptions(tiny_decoder="tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models") / "sdxl"
    shutil.copytree(FOLDER, found)
    make_tiny(found / "tiny")
    return found


@pytest.fixture(scope="module")
def sdxl(folder: Path) -> DiffusersSdxl:
    return DiffusersSdxl(folder, TINY)


def test_it_draws_the_stock_pipelines_images_with_the_same_decoder(folder: Path, sdxl: DiffusersSdxl) -> None:
    stock = load_stock()
    stock.vae = AutoencoderTiny.from_pretrained(folder / "tiny", local_files_only=True)
    expected = draw_stock(stock, WANTED[:4], SETTINGS)
    assert expected.std() > 20, "pictures, not one colour"
    found = draw_ours(sdxl, WANTED[:4], SETTINGS)
    assert difference(found, expected) <= 1
    assert difference(found, draw_ours(DiffusersSdxl(FOLDER, T2iOptions()), WANTED[:4], SETTINGS)) > 20


def test_what_an_image_starts_from_is_still_encoded_by_the_vae(sdxl: DiffusersSdxl) -> None:
    vae = sdxl._vae._vae
    assert type(vae).__name__ == "AutoencoderKL"
    seen: list[int] = []
    hook = vae.encoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    kept = vae.decoder.register_forward_pre_hook(lambda *_: seen.append(-1))
    source = Image.new("RGB", (32, 32), (90, 60, 30))
    draw_ours(sdxl, [replace(each, source=source) for each in WANTED[:2]], replace(SETTINGS, strength=0.5))
    hook.remove()
    kept.remove()
    assert seen == [2]


def test_what_is_not_finite_comes_out_black_and_what_is_flat_in_16_bits_is_decoded_again(
    folder: Path, sdxl: DiffusersSdxl, caplog: pytest.LogCaptureFixture
) -> None:
    latents = torch.randn(2, 4, 8, 8)
    latents[1, 0, 0, 0] = float("nan")
    with torch.inference_mode():
        images = sdxl._vae.finish(sdxl._vae.start_decode(latents))
    extremes = [image.convert("L").getextrema() for image in images]
    assert extremes[1] == (0, 0) and extremes[0][1] - extremes[0][0] > 20
    make_tiny(folder / "loud", gain=1e8)  # beyond float16
    loud = DiffusersSdxl(folder, T2iOptions(dtype="float16", tiny_decoder="loud"))
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        again = loud._vae.finish(loud._vae.start_decode(latents[:1].half()))
    told = [record.getMessage() for record in caplog.records if record.name.startswith("ltgc_local")]
    assert told == ["draw: 1 images came out flat in torch.float16; decoded again in float32"]
    assert loud._vae._decoder.dtype == torch.float16 and len(again) == 1


@pytest.mark.parametrize(
    ("levels", "more", "told"),
    [
        (4, {}, r"4 channels, enlarges them 8 times, but the model's VAE has 4 channels, enlarges them 4 times"),
        (3, {"latent_channels": 16}, r"16 channels, .* type --set draw\.decoder=null"),
    ],
)
def test_a_decoder_of_other_latents_is_refused(folder: Path, levels: int, more: dict[str, Any], told: str) -> None:
    make_tiny(folder / "other", levels, **more)
    with pytest.raises(ModelError, match=told):
        load_model("t2i", "diffusers", folder, replace(TINY, tiny_decoder="other"))


def test_latents_that_are_shifted_are_no_tiny_decoders(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "sdxl")
    config = tmp_path / "sdxl/vae/config.json"
    config.write_text(config.read_text("utf-8").replace('"latents_mean": null', '"latents_mean": [0, 0, 0, 1]'))
    with pytest.raises(ModelError, match="VAE has 4 channels, enlarges them 4 times, and shifts them"):
        load_model("t2i", "diffusers", tmp_path / "sdxl", TINY)


def test_another_classes_folder_and_one_without_a_weight_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="weights of AutoencoderTiny are not in its files or have another shape"):
        load_model("t2i", "diffusers", folder, replace(TINY, tiny_decoder="vae"))
    with pytest.raises(ModelError, match="missing"):
        load_model("t2i", "diffusers", folder, replace(TINY, tiny_decoder="missing"))
