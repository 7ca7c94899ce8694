"""What goes wrong when SDXL draws: too little memory, a VAE that overflows, weights that are not there."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from ltgc_local.backends.protocols import DrawSettings, T2iOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.sdxl.batches import BatchSizeCache
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.errors import BackendError, ModelError
from ltgc_local.model_store.cards import FewStepCard
from ltgc_local.out_of_memory import is_out_of_memory
from tests.backends.sdxl_stock import FOLDER, WANTED, difference, draw_ours, draw_stock, load_stock

SETTINGS = DrawSettings(size_px=32, steps=4, guidance=3.0)


@contextmanager
def memory_for(model: DiffusersSdxl, images: int) -> Iterator[list[int]]:
    """Let the UNet run out of memory with more than this many images (twice the rows); yield the rows of its calls."""
    seen: list[int] = []

    def refuse(_: Any, args: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(args[0]))
        if len(args[0]) > 2 * images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    hook = model._denoiser._unet.mid_block.register_forward_pre_hook(refuse)
    try:
        yield seen
    finally:
        hook.remove()


def test_out_of_memory_halves_the_batch_loses_nothing_and_is_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "batch_sizes.json"
    model = DiffusersSdxl(FOLDER, T2iOptions(batch_sizes=file))
    expected = draw_ours(model, WANTED, SETTINGS)
    with memory_for(model, 2) as seen, caplog.at_level(logging.WARNING):
        found = draw_ours(model, WANTED, SETTINGS)
    assert difference(found, expected) <= 1
    assert seen == [16, 8] + [4] * 4 * SETTINGS.steps
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "draw: out of memory with 8 images of 32 px at once", "draw: out of memory with 4 images of 32 px at once"
    ]  # fmt: skip
    assert json.loads(file.read_text()) == {"sdxl, 32 px, CPU": 2}
    again = DiffusersSdxl(FOLDER, T2iOptions(batch_sizes=file))  # the next step's process
    with memory_for(again, 2) as seen:
        draw_ours(again, WANTED[:4], SETTINGS)
        assert max(seen) == 4
    with memory_for(again, 8) as seen:
        draw_ours(again, WANTED, replace(SETTINGS, size_px=16))
        assert max(seen) == 16  # of another size nothing is known


def test_out_of_memory_in_the_middle_keeps_the_batches_that_were_drawn() -> None:
    model = DiffusersSdxl(FOLDER, T2iOptions())
    drawn = []
    settings = replace(SETTINGS, batch_size=2)
    for i, image in model.draw(WANTED, settings):
        drawn.append((i, image))
        if i == 1:
            hook = memory_for(model, 1)
            hook.__enter__()
    hook.__exit__(None, None, None)
    assert sorted(i for i, _ in drawn) == [*range(8)]


def test_one_image_that_does_not_fit_is_an_error_that_says_what_to_type() -> None:
    model = DiffusersSdxl(FOLDER, T2iOptions())
    with memory_for(model, 0), pytest.raises(BackendError) as caught:
        draw_ours(model, WANTED[:3], SETTINGS)
    assert str(caught.value) == (
        "draw: out of memory (CPU) with a single image of 32 px; end what else uses the memory, or type "
        "--set models.dtype=bfloat16, or --set draw.size_px=16"
    )
    assert caught.value.exit_code == 6


def test_another_error_of_the_library_is_not_taken_for_want_of_memory() -> None:
    model = DiffusersSdxl(FOLDER, T2iOptions())

    def fail(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    hook = model._denoiser._unet.mid_block.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="mat1"):
        draw_ours(model, WANTED[:2], SETTINGS)
    hook.remove()


def test_a_real_allocation_that_is_too_large_is_want_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("content", ["", "[]", '{"a, 8 px, CPU": "x"}', '{"a, 8 px, CPU": 0}'])
def test_a_damaged_memory_is_found_out_again(tmp_path: Path, content: str) -> None:
    file = tmp_path / "batch_sizes.json"
    file.write_text(content)
    batches = BatchSizeCache(file, "a", "CPU")
    assert batches.largest(8, 6) == 6
    assert batches.halve(8, 6) == 3
    assert BatchSizeCache(file, "a", "CPU").largest(8, 6) == 3
    assert BatchSizeCache(file, "b", "CPU").largest(8, 6) == 6


def copy_with(tmp_path: Path, part: str, change: Any) -> Path:
    """Return a copy of the miniature whose part has other weights."""
    folder = tmp_path / "sdxl"
    shutil.copytree(FOLDER, folder)
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})
    return folder


def overflow(weights: dict[str, torch.Tensor]) -> None:
    """Make the decoder's values too large for float16; in float32 the normalisations bring them back."""
    weights["decoder.conv_in.weight"] = (weights["decoder.conv_in.weight"].float() * 1e5).clamp(-60000, 60000).half()


@pytest.mark.parametrize(
    ("dtype", "force_upcast", "retries"), [("float16", False, 1), ("float16", True, 0), ("float32", False, 0)]
)
def test_a_vae_that_overflows_in_float16_is_run_in_float32(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: str, force_upcast: bool, retries: int
) -> None:
    folder = copy_with(tmp_path, "vae", overflow)
    config = json.loads((folder / "vae/config.json").read_text())
    (folder / "vae/config.json").write_text(json.dumps(config | {"force_upcast": force_upcast}))
    model = DiffusersSdxl(folder, T2iOptions(dtype=dtype))
    with caplog.at_level(logging.WARNING):
        found = draw_ours(model, WANTED[:3], SETTINGS)
    assert all(image.std() > 10 for image in found)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["draw: 3 images came out flat in torch.float16; decoded again in float32"] * retries
    exact = draw_ours(DiffusersSdxl(folder, T2iOptions()), WANTED[:3], SETTINGS)
    assert np.abs(found - exact).mean() < 5  # the UNet's float16


def test_an_image_that_is_not_finite_even_in_float32_comes_out_black(tmp_path: Path) -> None:
    model = DiffusersSdxl(FOLDER, T2iOptions())
    latents = torch.randn(3, 4, 8, 8)
    latents[1, 0, 0, 0] = float("nan")
    with torch.inference_mode():
        images = model._vae.finish(model._vae.start_decode(latents))
    extremes = [image.convert("L").getextrema() for image in images]
    assert extremes[1] == (0, 0)
    assert all(highest - lowest > 20 for lowest, highest in (extremes[0], extremes[2]))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_a_part_without_one_of_its_weights_is_refused(tmp_path: Path, part: str) -> None:
    folder = copy_with(tmp_path, part, lambda weights: weights.pop(sorted(weights)[0]))
    with pytest.raises(
        ModelError, match=rf"{part}: 1 weights of .* are not in its files or have another shape, such as"
    ):
        load_model("t2i", "diffusers", folder, T2iOptions())


def test_another_models_configuration_is_refused(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "sdxl")
    path = tmp_path / "sdxl/unet/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block_out_channels": [64, 96], "norm_num_groups": 16}))
    with pytest.raises(ModelError, match="weights of UNet2DConditionModel are not in its files or have another shape"):
        load_model("t2i", "diffusers", tmp_path / "sdxl", T2iOptions())


@pytest.mark.parametrize("part", ["unet", "vae", "tokenizer_2", "scheduler", "model_index.json"])
def test_a_folder_without_a_part_is_refused(tmp_path: Path, part: str) -> None:
    shutil.copytree(FOLDER, tmp_path / "sdxl", ignore=shutil.ignore_patterns(part))
    with pytest.raises(ModelError, match="sdxl"):
        load_model("t2i", "diffusers", tmp_path / "sdxl", T2iOptions())


def make_lora(folder: Path, channels: int = 0) -> Path:
    """Write a LoRA of the miniature's attention with random weights, in the layout that publishers use."""
    torch.manual_seed(0)
    pipeline = load_stock()
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    weights = get_peft_model_state_dict(pipeline.unet)
    if channels:
        weights = {name: torch.randn(channels, channels) for name in weights}
    pipeline.save_lora_weights(folder, unet_lora_layers=weights, weight_name="tiny_lora.safetensors")
    return folder / "tiny_lora.safetensors"


def test_a_lora_is_fused_and_draws_as_the_stock_pipeline_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "sdxl"
    shutil.copytree(FOLDER, folder)
    make_lora(folder)
    stock = load_stock()
    stock.load_lora_weights(folder, weight_name="tiny_lora.safetensors", local_files_only=True)
    few = FewStepCard(steps=[4], lora="tiny_lora.safetensors")
    model = DiffusersSdxl(folder, T2iOptions(few_step=few))
    found = draw_ours(model, WANTED[:4], SETTINGS)
    assert difference(found, draw_stock(stock, WANTED[:4], SETTINGS)) <= 2  # fused, the products are rounded otherwise
    assert difference(found, draw_ours(DiffusersSdxl(FOLDER, T2iOptions()), WANTED[:4], SETTINGS)) > 20
    assert not any("lora" in name for name, _ in model._denoiser._unet.named_modules())


def test_a_lora_that_is_not_there_or_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sdxl"
    shutil.copytree(FOLDER, folder)
    few = T2iOptions(few_step=FewStepCard(steps=[4], lora="tiny_lora.safetensors"))
    with pytest.raises(ModelError, match=r"tiny_lora\.safetensors: not there, but the model's card names it"):
        load_model("t2i", "diffusers", folder, few)
    make_lora(folder, channels=7)
    with pytest.raises(ModelError, match="sdxl"):
        load_model("t2i", "diffusers", folder, few)
    save_file({"unrelated.weight": torch.zeros(2)}, folder / "tiny_lora.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="sdxl"):
        load_model("t2i", "diffusers", folder, few)
