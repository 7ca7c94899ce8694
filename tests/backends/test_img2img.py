"""img2img on the miniature SDXL: what strength means, and that the batch changes nothing."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltgc_local.backends.protocols import Drawing, DrawSettings, T2iOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.datasets import open_corpus
from ltgc_local.recipe.inputs import Data

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = DrawSettings(size_px=32, steps=20, guidance=2.0)
PROMPTS = ["A photo of the class coat with long sleeves.", "A photo of the class bag with a handle.",
           "A photo of the class dress with a narrow waist.", "A photo of the class coat with a hood."]  # fmt: skip
SEEDS = [11, 12, 13, 2**62]


@pytest.fixture(scope="module")
def sdxl() -> DiffusersSdxl:
    model = load_model("t2i", "diffusers", ROOT / "data/miniatures/sdxl", T2iOptions())
    assert isinstance(model, DiffusersSdxl)
    return model


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    """Two light and two dark images, 28 pixels wide and grey as the corpus has them."""
    train = open_corpus(Data(root=ROOT / "data/fashion_mnist_lt")).train
    images = sorted(train.images(range(0, 400, 10)), key=lambda image: float(np.asarray(image).mean()))
    return [images[0], images[-1], images[1], images[-2]]


def draw(sdxl: DiffusersSdxl, prompts: list[str], seeds: list[int], settings: DrawSettings) -> list[Image.Image]:
    wanted = [Drawing(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    return [image for _, image in sorted(sdxl.draw(wanted, settings), key=itemgetter(0))]


def draw_from(
    sdxl: DiffusersSdxl, sources: list[Image.Image], prompts: list[str], seeds: list[int], settings: DrawSettings
) -> list[Image.Image]:
    wanted = [Drawing(*each) for each in zip(prompts, seeds, sources, strict=True)]
    return [image for _, image in sorted(sdxl.draw(wanted, settings), key=itemgetter(0))]


def distance(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two images in grey levels, 0 to 255."""
    arrays = [np.asarray(each.convert("L").resize((32, 32)), dtype=float) for each in (one, other)]
    return float(np.abs(arrays[0] - arrays[1]).mean())


def distances(images: list[Image.Image], others: list[Image.Image]) -> list[float]:
    return [distance(one, other) for one, other in zip(images, others, strict=True)]


def test_the_less_strength_the_nearer_the_source(sdxl: DiffusersSdxl, photographs: list[Image.Image]) -> None:
    means = []
    for strength in (0.05, 0.5, 1.0):
        drawn = draw_from(sdxl, photographs, PROMPTS, SEEDS, replace(SETTINGS, strength=strength))
        assert {image.size for image in drawn} == {(32, 32)}
        means.append(np.mean(distances(drawn, photographs)))
    assert means[0] < 12 < means[1] < means[2]  # nearly the source: what the VAE loses and one step of noise


def test_full_strength_is_nearly_text_to_image_of_the_same_seed(
    sdxl: DiffusersSdxl, photographs: list[Image.Image]
) -> None:
    plain = draw(sdxl, PROMPTS, SEEDS, SETTINGS)
    full = draw_from(sdxl, photographs, PROMPTS, SEEDS, SETTINGS)
    others = draw(sdxl, PROMPTS, [seed + 1 for seed in SEEDS], SETTINGS)
    assert np.mean(distances(full, plain)) < 0.5 * np.mean(distances(full, photographs))
    assert np.mean(distances(full, plain)) < 0.5 * np.mean(distances(others, plain))


def test_an_image_is_the_same_alone_and_in_a_batch(sdxl: DiffusersSdxl, photographs: list[Image.Image]) -> None:
    settings = replace(SETTINGS, strength=0.6, negative_prompt="blurry")
    together = draw_from(sdxl, photographs, PROMPTS, SEEDS, settings)
    for i, image in enumerate(together):
        (alone,) = draw_from(sdxl, photographs[i : i + 1], PROMPTS[i : i + 1], SEEDS[i : i + 1], settings)
        assert np.abs(np.asarray(alone, dtype=int) - np.asarray(image, dtype=int)).max() <= 1


def test_img2img_leaves_text_to_image_as_it_was(sdxl: DiffusersSdxl, photographs: list[Image.Image]) -> None:
    before = draw(sdxl, PROMPTS[:1], SEEDS[:1], SETTINGS)[0].tobytes()
    draw_from(sdxl, photographs[:1], PROMPTS[:1], SEEDS[:1], replace(SETTINGS, strength=0.3))
    assert draw(sdxl, PROMPTS[:1], SEEDS[:1], SETTINGS)[0].tobytes() == before


def test_a_source_of_another_shape_is_cropped_not_squeezed(sdxl: DiffusersSdxl) -> None:
    wide = Image.new("RGB", (96, 32), "black")
    wide.paste("white", (32, 0, 64, 32))
    (drawn,) = draw_from(sdxl, [wide], PROMPTS[:1], SEEDS[:1], replace(SETTINGS, strength=0.05))
    assert np.asarray(drawn.convert("L")).mean() > 150  # squeezed, a third would be white: about 85
