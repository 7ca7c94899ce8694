"""The SDXL engine draws what the stock pipelines draw, whatever the batch; what it may leave out, it leaves out.

Tolerance: one grey level of 256 in any pixel, in float32. Sums in another order are rounded otherwise; nothing else
may differ.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from ltgc_local.backends.protocols import DrawSettings, T2iOptions
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.backends.sdxl.prompts import Embeddings
from ltgc_local.backends.sdxl.unet import NoisePredictor
from ltgc_local.backends.sdxl.weights import SCHEDULERS
from ltgc_local.model_store.cards import FewStepCard
from tests.backends.sdxl_stock import FOLDER, PROMPTS, WANTED, difference, draw_ours, draw_stock, load_stock

TOLERANCE = 1  # grey levels
SETTINGS = DrawSettings(size_px=32, steps=8, guidance=7.0)


@pytest.fixture(scope="module")
def stock() -> Any:
    return load_stock()


@pytest.fixture(scope="module")
def sdxl() -> DiffusersSdxl:
    return DiffusersSdxl(FOLDER, T2iOptions())


def photograph(number: int, size: int = 32) -> Image.Image:
    """Return a square with a lighter square in it."""
    image = Image.new("RGB", (size, size), (30, 30, 30))
    image.paste((200, 190, 180), (8, 4 + number, 24, 28))
    return image


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, guidance=1.0),
        replace(SETTINGS, negative_prompt="A photo of the class shirt."),
        replace(SETTINGS, size_px=40, steps=3),
    ],
)
def test_the_same_seed_gives_the_stock_pipelines_image(stock: Any, sdxl: DiffusersSdxl, settings: DrawSettings) -> None:
    expected = draw_stock(stock, WANTED, settings)
    assert expected.std() > 30  # images, not one colour
    assert difference(draw_ours(sdxl, WANTED, settings), expected) <= TOLERANCE


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_img2img_gives_the_stock_pipelines_image(stock: Any, sdxl: DiffusersSdxl, strength: float) -> None:
    wanted = [replace(drawing, source=photograph(i)) for i, drawing in enumerate(WANTED[:4])]
    settings = replace(SETTINGS, steps=10, strength=strength)
    assert difference(draw_ours(sdxl, wanted, settings), draw_stock(stock, wanted, settings)) <= TOLERANCE


@pytest.mark.parametrize("sources", [False, True])
def test_batch_1_3_and_8_give_the_same_images(sdxl: DiffusersSdxl, sources: bool) -> None:
    wanted = [replace(each, source=photograph(i) if sources else None) for i, each in enumerate(WANTED)]
    settings = replace(SETTINGS, strength=0.6)
    whole = draw_ours(sdxl, wanted, replace(settings, batch_size=8))
    for batch_size in (1, 3):
        assert difference(draw_ours(sdxl, wanted, replace(settings, batch_size=batch_size)), whole) <= TOLERANCE


def test_some_from_noise_and_some_from_images_in_one_call(sdxl: DiffusersSdxl) -> None:
    wanted = [replace(each, source=photograph(i) if i % 3 else None) for i, each in enumerate(WANTED)]
    mixed = draw_ours(sdxl, wanted, replace(SETTINGS, strength=0.5, batch_size=2))
    for i, drawing in enumerate(wanted):
        alone = draw_ours(sdxl, [drawing], replace(SETTINGS, strength=0.5))
        assert difference(mixed[i : i + 1], alone) <= TOLERANCE


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_a_card_can_name_draws_as_the_stock_pipeline_with_it(stock: Any, name: str) -> None:
    """The ancestral and consistency samplers add noise at each step, from the image's own generator."""
    few = FewStepCard(steps=[4], scheduler=name, timestep_spacing="trailing")
    model = DiffusersSdxl(FOLDER, T2iOptions(few_step=few))
    usual, settings = stock.scheduler, replace(SETTINGS, steps=4, guidance=2.0)
    stock.scheduler = SCHEDULERS[name].from_config(usual.config, timestep_spacing="trailing")
    try:
        expected = draw_stock(stock, WANTED[:4], settings)
    finally:
        stock.scheduler = usual
    assert difference(draw_ours(model, WANTED[:4], settings), expected) <= TOLERANCE
    assert difference(draw_ours(model, WANTED[:4], replace(settings, batch_size=1)), expected) <= TOLERANCE


def test_a_unet_that_takes_the_guidance_as_an_input_is_called_once_without_negative_rows() -> None:
    """LCM's own UNets have ``time_cond_proj_dim``."""
    torch.manual_seed(0)
    pipelines = [load_stock(), load_stock()]
    config = dict(pipelines[0].unet.config) | {"time_cond_proj_dim": 32}
    unet = UNet2DConditionModel.from_config(config).eval()
    unet.load_state_dict(pipelines[0].unet.state_dict(), strict=False)
    for pipeline in pipelines:
        pipeline.unet = UNet2DConditionModel.from_config(config).eval()
        pipeline.unet.load_state_dict(unet.state_dict())
    model = DiffusersSdxl.from_pipeline(pipelines[1], T2iOptions(), "lcm")
    expected = draw_stock(pipelines[0], WANTED[:2], SETTINGS)
    assert difference(draw_ours(model, WANTED[:2], SETTINGS), expected) <= TOLERANCE
    assert difference(draw_ours(model, WANTED[:2], replace(SETTINGS, guidance=1.5)), expected) > TOLERANCE


def rows_of_each_call(model: DiffusersSdxl, settings: DrawSettings) -> list[int]:
    """Return the rows of each of the UNet's calls while four images are drawn."""
    seen: list[int] = []
    unet = model._denoiser._unet
    hook = unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    draw_ours(model, WANTED[:4], settings)
    hook.remove()
    return seen


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((0.0, 1.0), [8] * 8), ((0.25, 0.75), [4, 4, 8, 8, 8, 8, 4, 4]), ((0.0, 0.5), [8] * 4 + [4] * 4)],
)
def test_outside_the_interval_the_unet_sees_half_the_rows(
    sdxl: DiffusersSdxl, interval: tuple[float, float], expected: list[int]
) -> None:
    assert rows_of_each_call(sdxl, replace(SETTINGS, guidance_interval=interval)) == expected


def test_an_interval_draws_what_the_stock_pipeline_draws_when_its_guidance_is_switched_off(
    stock: Any, sdxl: DiffusersSdxl
) -> None:
    def switch_off(pipeline: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 3:  # as the library documents: four steps are done
            pipeline._guidance_scale = 0.0
            return {name: tensor.chunk(2)[1] for name, tensor in tensors.items()}
        return tensors

    names = ["prompt_embeds", "add_text_embeds", "add_time_ids"]
    expected = draw_stock(
        stock, WANTED[:4], SETTINGS, callback_on_step_end=switch_off, callback_on_step_end_tensor_inputs=names
    )
    found = draw_ours(sdxl, WANTED[:4], replace(SETTINGS, guidance_interval=(0.0, 0.5)))
    assert difference(found, expected) <= TOLERANCE
    assert difference(found, draw_ours(sdxl, WANTED[:4], SETTINGS)) > 20


def test_a_shallow_step_right_after_a_whole_one_is_equal(sdxl: DiffusersSdxl) -> None:
    """With deep features of the same step nothing is approximated: the two ways through the UNet are one."""
    torch.manual_seed(0)
    predict = NoisePredictor(sdxl._denoiser._unet, cache_interval=2)
    rows = Embeddings(torch.randn(3, 77, 160), torch.randn(3, 96))
    latents, t, sizes = torch.randn(3, 4, 8, 8), torch.tensor(500), torch.zeros(3, 6)
    with torch.inference_mode():
        whole, shallow = predict(latents, t, rows, sizes), predict(latents, t, rows, sizes)
        assert torch.allclose(whole, shallow, atol=1e-5)
        other = predict(latents[:2], t, Embeddings(rows.hidden[:2], rows.pooled[:2]), sizes[:2])
    assert torch.allclose(whole[:2], other, atol=1e-4)  # other rows: computed whole again


@pytest.mark.parametrize(("interval", "calls"), [(1, 8), (2, 4), (3, 3)])
def test_deep_features_are_computed_at_every_kth_step(sdxl: DiffusersSdxl, interval: int, calls: int) -> None:
    seen: list[int] = []
    hook = sdxl._denoiser._unet.mid_block.register_forward_pre_hook(lambda *_: seen.append(1))
    draw_ours(sdxl, WANTED[:2], replace(SETTINGS, cache_interval=interval))
    hook.remove()
    assert len(seen) == calls


def test_reused_features_change_an_image_less_than_another_seed_does(sdxl: DiffusersSdxl) -> None:
    settings = replace(SETTINGS, steps=16, guidance=2.0)
    whole = draw_ours(sdxl, WANTED, settings)
    others = draw_ours(sdxl, [replace(each, seed=each.seed + 100) for each in WANTED], settings)
    distances = [np.abs(draw_ours(sdxl, WANTED, replace(settings, cache_interval=k)) - whole).mean() for k in (2, 3)]
    assert 0 < distances[0] < distances[1] < 0.5 * np.abs(others - whole).mean()


def test_each_distinct_prompt_is_encoded_once_and_kept_for_the_next_call(sdxl: DiffusersSdxl) -> None:
    seen: list[int] = []
    encoder = sdxl._prompts._pipeline.text_encoder_2
    hook = encoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    fresh = [replace(each, prompt=f"{each.prompt} In a room.") for each in WANTED]
    for _ in range(2):
        draw_ours(sdxl, fresh, replace(SETTINGS, steps=1, negative_prompt="blurry", batch_size=2))
    hook.remove()
    assert seen == [len(set(PROMPTS)) + 1]  # one call, the negative prompt in it


def test_nothing_wanted_draws_nothing(sdxl: DiffusersSdxl) -> None:
    assert [*sdxl.draw([], SETTINGS)] == []


def test_no_image_is_marked(sdxl: DiffusersSdxl) -> None:
    assert sdxl._prompts._pipeline.watermark is None


@pytest.mark.compiles
@pytest.mark.parametrize("compile", ["regional", "full"])
def test_compiled_modules_draw_the_same_images_in_batches_of_one_shape(sdxl: DiffusersSdxl, compile: Any) -> None:
    model = DiffusersSdxl(FOLDER, T2iOptions(compile=compile))
    settings = replace(SETTINGS, steps=2, batch_size=3)
    seen: set[int] = set()
    model._denoiser._unet.conv_in.register_forward_pre_hook(lambda _, args: seen.add(len(args[0])))
    found = draw_ours(model, WANTED, settings)
    assert difference(found, draw_ours(sdxl, WANTED, settings)) <= TOLERANCE
    assert seen <= {6}  # 8 = 3 + 3 + 2, and the last is filled up
