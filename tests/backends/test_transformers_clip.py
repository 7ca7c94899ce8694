"""Role ``clip`` on transformers: a folder in the publishers' layout, made with random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPProcessor

from ltgc_local.backends.clip.transformers_clip import TransformersClip
from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.errors import ModelError
from tests.transformers_clip_folder import write_transformers_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformers_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(folder: Path) -> TransformersClip:
    model = load_model("clip", "transformers_clip", folder, ModelOptions())
    assert isinstance(model, TransformersClip)
    return model


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(28, 28, 3), (40, 60, 3), (90, 30, 3)]
    images = [Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in sizes]
    return [*images, images[1].convert("L")]


def test_the_folder_has_the_files_of_publishers(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer_config.json"} <= names


def test_images_and_texts_are_encoded_as_transformers_own_pipeline_does(clip: TransformersClip, folder: Path) -> None:
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    texts, images = ["a bag", "a photo of the class coat", "a bag " * 200], pictures()
    rows, text_rows = clip.encode_images(images), clip.encode_texts(texts)
    with torch.inference_mode():
        inputs = processor(images=[i.convert("RGB") for i in images], return_tensors="pt")
        expected = F.normalize(model.get_image_features(**inputs).pooler_output, dim=-1)
        tokens = processor(text=texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
        expected_texts = F.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    assert (rows.shape, rows.dtype, rows.device.type) == ((4, 32), torch.float32, "cpu")
    assert torch.allclose(rows, expected, atol=1e-4)
    assert torch.allclose(text_rows, expected_texts, atol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-2 < (expected_texts[0] - expected_texts[1]).abs().max()


def test_more_texts_than_go_at_once(clip: TransformersClip) -> None:
    many = clip.encode_texts(["a coat"] * 300 + ["a bag"])
    assert torch.allclose(many[300], clip.encode_texts(["a bag"])[0], atol=1e-5)


def break_file(name: str, change: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: change(folder / name)


def say_siglip(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "siglip"}))


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (break_file("preprocessor_config.json", Path.unlink), "no preprocessor_config.json: transformers' CLIP needs"),
        (break_file("config.json", say_siglip), "model_type is 'siglip', expected 'clip'"),
        (break_file("config.json", lambda path: path.write_text("{")), "config.json: cannot be read as JSON"),
        (break_file("model.safetensors", Path.unlink), "cannot be loaded as a clip"),
    ],
)
def test_a_folder_that_is_not_a_whole_clip_is_an_error_of_the_model(
    folder: Path, tmp_path: Path, breaking: Callable[[Path], None], message: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    breaking(copy)
    with pytest.raises(ModelError) as raised:
        load_model("clip", "transformers_clip", copy, ModelOptions())
    assert message in str(raised.value)
    assert str(copy) in str(raised.value)


def test_weights_that_the_files_lack_are_an_error(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "clip")
    file = tmp_path / "clip/model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if not k.startswith("text_model")}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"weights of CLIPModel are not in its files .* text_model\."):
        load_model("clip", "transformers_clip", tmp_path / "clip", ModelOptions())
