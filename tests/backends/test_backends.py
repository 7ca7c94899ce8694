"""Backends: names that resolve, devices, batches, and the contract of ``clip`` on the shipped miniature."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ltgc_local.backends import registry
from ltgc_local.backends.clip.open_clip_vit import OpenClipVit, ResizeStep
from ltgc_local.backends.clip.tokens import load_token_counter
from ltgc_local.backends.images import shrink
from ltgc_local.backends.protocols import ModelOptions, Sampling, TextOptions
from ltgc_local.backends.registry import BACKENDS, load_model
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype
from ltgc_local.errors import BackendError, ModelError
from ltgc_local.model_store.cards import ROLES
from ltgc_local.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
MINIATURES, QUICKSTART = ROOT / "data/miniatures", ROOT / "recipes/quickstart.yaml"


@pytest.mark.parametrize(("role", "backend"), BACKENDS)
def test_every_name_in_the_registry_is_a_class(role: str, backend: str) -> None:
    module, _, name = BACKENDS[role, backend].partition(":")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_every_role_has_a_backend_and_what_is_chosen_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {role for role, _ in BACKENDS} == set(ROLES)
    recipe = load_recipe(QUICKSTART, ["models.device=auto"])
    for installed in (False, True):
        monkeypatch.setattr(registry, "_has_vllm", lambda installed=installed: installed)
        chosen = {role: registry.backend_of(role, recipe) for role in recipe.roles}
        assert set(chosen.items()) <= set(BACKENDS)
        assert chosen["llm"] == chosen["vlm"] == ("vllm" if installed else "transformers")


@pytest.mark.parametrize(
    ("settings", "backend"),
    [
        (["models.device=cpu"], "transformers"),
        (["models.device=cuda", "models.quantization=4bit"], "transformers"),
        (["models.device=cpu", "models.backend=vllm"], "vllm"),
        (["models.device=cuda", "models.backend=transformers"], "transformers"),
    ],
)
def test_auto_takes_vllm_for_a_gpu_and_whole_weights_only(
    settings: list[str], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_has_vllm", lambda: True)
    assert registry.backend_of("llm", load_recipe(QUICKSTART, settings)) == backend


def test_weights_that_the_files_lack_are_an_error_and_not_random_numbers(tmp_path: Path) -> None:
    shutil.copytree(MINIATURES / "qwen3", tmp_path / "qwen3")
    weights = load_file(tmp_path / "qwen3" / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    del weights[name]
    save_file(weights, tmp_path / "qwen3" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"1 weights of Qwen3ForCausalLM .* such as {re.escape(name)}; the folder is"):
        load_model("llm", "transformers", tmp_path / "qwen3", TextOptions())


def test_another_architectures_configuration_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(MINIATURES / "qwen3", tmp_path / "qwen3")
    path = tmp_path / "qwen3" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"intermediate_size": 2 * config["intermediate_size"]}))
    with pytest.raises(ModelError, match=r"qwen3: 12 weights of Qwen3ForCausalLM .* have another shape"):
        load_model("llm", "transformers", tmp_path / "qwen3", TextOptions())


def test_an_image_is_shrunk_to_the_bound_and_keeps_its_shape() -> None:
    picture = Image.new("RGB", (4000, 1000))
    small = shrink(picture, 1_000_000)
    assert small.size == (2000, 500)
    assert shrink(small, 1_000_000) is small
    assert shrink(Image.new("L", (1, 900)), 400).size == (1, 600)  # never thinner than a pixel


def test_a_library_that_does_not_import_is_an_error_of_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, BACKENDS["clip", "open_clip"].partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModelError, match=r"cannot be loaded as a clip by open_clip: import of open_clip halted"):
        load_model("clip", "open_clip", tmp_path, ModelOptions())


def test_an_unknown_backend_lists_those_there_are() -> None:
    with pytest.raises(ModelError, match="backend 'vlm2' has no clip; known for clip: open_clip"):
        load_model("clip", "vlm2", MINIATURES, ModelOptions())


@pytest.mark.parametrize("content", [None, "", '{"model_cfg": {}}'])
def test_a_folder_that_is_not_a_clip_is_an_error_of_the_model(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_model("clip", "open_clip", tmp_path, ModelOptions())


def test_devices_and_number_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (resolve_device("auto"), resolve_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(BackendError, match=r"torch sees no GPU here; type --set models\.device=cpu"):
        resolve_device("cuda")
    assert resolve_dtype("auto", "cpu") is torch.float32
    assert resolve_dtype("auto", "cuda") is torch.bfloat16
    assert resolve_dtype("float16", "cpu") is torch.float16


def test_clip_tokens_are_counted_without_start_and_end() -> None:
    count = load_token_counter(MINIATURES / "sdxl")
    assert count("") == 0
    one, two = count("a photo of a bag"), count("a photo of a bag with a strap")
    assert 5 <= one < two
    assert count("word " * 200) > 200  # not cut at 77: what is too long must be seen


def test_the_scoring_clips_tokens_are_those_that_it_reads(clip: OpenClipVit) -> None:
    count = load_token_counter(MINIATURES / "clip")
    assert count("") == 0
    text = "a photo of a bag with a long strap"
    read = open_clip.get_tokenizer(f"local-dir:{MINIATURES / 'clip'}")([text])[0]
    assert count(text) == int(read.argmax()) - 1  # between start and end, the id that is highest
    assert count("word " * 200) > 200
    assert load_token_counter(MINIATURES / "qwen3")("a bag") > 0  # any folder with a tokenizer of its own


def test_a_published_open_clip_reads_by_open_clips_own_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 8, "text_cfg": {}}}')
    count = load_token_counter(tmp_path)
    text = "a photo of a leatherback sea turtle"
    assert count(text) == int(open_clip.tokenize([text])[0].argmax()) - 1


def test_a_folder_without_a_tokenizer_is_an_error_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        load_token_counter(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        load_token_counter(tmp_path)


@pytest.fixture(scope="module")
def clip() -> OpenClipVit:
    model = load_model("clip", "open_clip", MINIATURES / "clip", ModelOptions())
    assert isinstance(model, OpenClipVit)
    return model


def pictures(num: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (num, 28, 28), dtype=np.uint8)
    return [Image.fromarray(array) for array in pixels]


def test_clip_encodes_images_as_unit_rows_on_the_cpu(clip: OpenClipVit) -> None:
    rows = clip.encode_images(pictures(3))
    assert (rows.shape, rows.dtype, rows.device.type) == ((3, 96), torch.float32, "cpu")
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)
    assert not rows.requires_grad


def test_clip_encodes_an_image_alike_alone_in_a_batch_and_in_colour(clip: OpenClipVit) -> None:
    images = pictures(3)
    rows = clip.encode_images(images)
    assert torch.allclose(clip.encode_images(images[1:2])[0], rows[1], atol=1e-5)
    assert torch.allclose(clip.encode_images([images[1].convert("RGB")])[0], rows[1], atol=1e-5)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_clip_resizes_as_its_own_preprocessing_but_for_rounding(mode: str) -> None:
    preprocess = open_clip.image_transform((224, 224), is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3)
    noise = np.random.default_rng(1).integers(0, 256, (301, 257, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    expected = 255 * preprocess(image.convert("RGB")).permute(1, 2, 0).numpy()
    resized = ResizeStep(preprocess)(image)
    assert (resized.mode, resized.size) == ("RGB", (224, 224))
    difference = np.abs(np.asarray(resized) - expected)
    assert difference.max() <= 2.01  # in pure noise; 1 in images
    assert difference.mean() < 0.05


def test_clip_encodes_texts_as_unit_rows_and_cuts_what_is_too_long(clip: OpenClipVit) -> None:
    rows = clip.encode_texts(["a bag", "a coat", "a bag " * 200])
    assert (rows.shape, rows.dtype) == ((3, 96), torch.float32)
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)
    assert not torch.allclose(rows[0], rows[1], atol=1e-2)
    many = clip.encode_texts(["a coat"] * 300 + ["a bag"])  # more than go at once
    assert torch.allclose(many[300], rows[0], atol=1e-5)


def test_a_model_that_can_think_is_asked_not_to(tmp_path: Path) -> None:
    shutil.copytree(MINIATURES / "qwen3", tmp_path / "qwen3")
    template = tmp_path / "qwen3/chat_template.jinja"
    refusal = "{% if enable_thinking is not defined or enable_thinking %}{{ raise_exception('it thinks') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    model = load_model("llm", "transformers", tmp_path / "qwen3", TextOptions())
    assert len(model.reply([[{"role": "user", "content": "a bag"}]], Sampling(2))) == 1
