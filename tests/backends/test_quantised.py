"""Quantised text models: bitsandbytes 4 and 8 bit for real, on a CPU; folders that are quantised already."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from PIL import Image

from ltgc_local.backends.protocols import Message, Sampling, TextOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.text.quantised import check_quantisation, check_widths_for_4bit, quantised_by
from ltgc_local.errors import BackendError, ModelError
from ltgc_local.methods.ltgc.prompts import fill_describe, fill_refine
from tests.backends.tiny_models import LANGUAGE_MODELS, VISION_LANGUAGE_MODELS

MINIATURES = Path(__file__).resolve().parents[2] / "data/miniatures"
LINEAR = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}


def ask(role: str, model: Any, prompt: str, tokens: int) -> list[str]:
    turns: list[list[Message]] = [[{"role": "user", "content": prompt}]] * 2
    if role == "llm":
        return list(model.reply(turns, Sampling(tokens)))
    return list(model.reply(turns, Sampling(tokens), images=[Image.new("L", (56, 56), 90)] * 2))


def quantised_layers(model: Any, bits: str) -> int:
    return sum(type(module).__name__ == LINEAR[bits] for module in model._model.modules())


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize(
    ("role", "family"), [("llm", "qwen3"), ("llm", "llama"), ("vlm", "qwen2.5-vl"), ("vlm", "llava-onevision")]
)
def test_publishers_folders_load_in_fewer_bits_and_answer(role: str, family: str, bits: str, tmp_path: Path) -> None:
    build = (LANGUAGE_MODELS if role == "llm" else VISION_LANGUAGE_MODELS)[family]
    folder = build(tmp_path / family)
    whole = load_model(role, "transformers", folder, TextOptions())
    model = load_model(role, "transformers", folder, TextOptions(quantization=bits))  # type: ignore[arg-type]
    assert quantised_layers(model, bits) == 14  # seven a layer of the language model, and nothing of what sees
    assert model._model.get_memory_footprint() < 0.8 * whole._model.get_memory_footprint()
    replies = ask(role, model, "a bag", 8)
    assert replies == ask(role, model, "a bag", 8) and len(replies) == 2 and replies[0] == replies[1]


@pytest.mark.parametrize(("role", "folder"), [("llm", "qwen3"), ("vlm", "qwen2.5-vl")])
def test_a_miniature_in_8_bit_says_what_the_whole_one_does(role: str, folder: str) -> None:
    prompt = fill_describe("bag") if role == "vlm" else fill_refine("bag", "A photo of the class bag.")
    whole = load_model(role, "transformers", MINIATURES / folder, TextOptions())
    model = load_model(role, "transformers", MINIATURES / folder, TextOptions(quantization="8bit"))
    assert quantised_layers(model, "8bit") > 0 == quantised_layers(whole, "8bit")
    start = "A photo of the class bag"
    for one in (whole, model):
        assert all(reply.startswith(start) for reply in ask(role, one, prompt, 30))


def test_widths_that_4_bit_cannot_run_on_a_cpu_are_an_error_at_loading() -> None:
    layers = torch.nn.Sequential(Linear4bit(128, 8), Linear4bit(96, 8))
    with pytest.raises(BackendError, match=r"m: 1 is 96 wide.* 64 only; type --set models\.quantization=8bit"):
        check_widths_for_4bit(Path("m"), layers)
    check_widths_for_4bit(Path("m"), layers[:1])


def mark_as(folder: Path, method: str, where: str | None = None) -> Path:
    """Write into a copy of the miniature's configuration that its weights are quantised."""
    shutil.copytree(MINIATURES / "qwen3", folder)
    config = json.loads((folder / "config.json").read_text())
    told = {"quantization_config": {"quant_method": method, "bits": 4, "group_size": 128}}
    (folder / "config.json").write_text(json.dumps(config | ({where: told} if where else told)))
    return folder


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8", "compressed-tensors"])
def test_a_quantised_folder_is_known_by_its_configuration(method: str, tmp_path: Path) -> None:
    assert quantised_by(mark_as(tmp_path / "a", method.upper())) == method
    assert quantised_by(mark_as(tmp_path / "b", method, "text_config")) == method
    assert quantised_by(MINIATURES / "qwen3") is None
    assert quantised_by(MINIATURES / "sdxl") is None


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8"])
def test_transformers_on_a_cpu_refuses_what_needs_a_gpu(method: str, tmp_path: Path) -> None:
    folder = mark_as(tmp_path / "m", method)
    with pytest.raises(BackendError, match=f"transformers loads {method} weights on a GPU only; name the card"):
        load_model("llm", "transformers", folder, TextOptions())


def test_a_missing_package_is_named_and_so_is_vllm(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"needs the package gptqmodel for awq weights; type: pip install gptqmodel"):
        check_quantisation(mark_as(tmp_path / "m", "awq"), "none", "cuda")
    check_quantisation(mark_as(tmp_path / "n", "fp8"), "none", "cuda")


def test_quantising_what_is_quantised_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"already quantised by gptq; type --set models\.quantization=none"):
        load_model("llm", "transformers", mark_as(tmp_path / "m", "gptq"), TextOptions(quantization="4bit"))


def test_a_configuration_that_is_not_json_is_an_error_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        quantised_by(tmp_path)
