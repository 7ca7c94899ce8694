"""A folder is refused, before a step runs, where its configuration is not what its card says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ModelCard, read_card
from ltgc_local.model_store.folders import check_model_folder

MINIATURES = Path(__file__).resolve().parents[2] / "data/miniatures"
EMPTY = (2).to_bytes(8, "little") + b"{}"  # a safetensors file without tensors


def write_card(folder: Path, role: str, family: str, more: dict[str, Any] | None = None) -> ModelCard:
    front: dict[str, Any] = {"name": "m", "role": role, "family": family, "path": "model", "evidence": "random"} | (
        more or {}
    )
    (folder / "m.md").write_text(f"---\n{json.dumps(front | {'license': 'MIT', 'source': 'this test'})}\n---\n")
    return read_card(folder / "m.md")


def write_config(folder: Path, config: dict[str, object], name: str = "config.json") -> None:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / name).write_text(json.dumps(config))
    (folder / "model/model.safetensors").write_bytes(EMPTY)


def refusal(card: ModelCard) -> str:
    with pytest.raises(ModelError) as caught:
        check_model_folder(card)
    return str(caught.value).replace(str(card.file.parent), "ROOT")


def test_a_tiny_decoder_that_a_card_names_is_there_of_its_class_and_has_weights(tmp_path: Path) -> None:
    shutil.copytree(MINIATURES / "sdxl", tmp_path / "model")
    card = write_card(tmp_path, "t2i", "sdxl", {"tiny_decoder": "tiny"})
    config = tmp_path / "model/tiny/config.json"
    assert refusal(card) == "ROOT/model/tiny/config.json: not there, but ROOT/m.md says 'tiny_decoder: tiny'"
    config.parent.mkdir()
    config.write_text('{"_class_name": "AutoencoderKL"}')
    assert "_class_name is 'AutoencoderKL', expected 'AutoencoderTiny' for tiny_decoder" in refusal(card)
    config.write_text('{"_class_name": "AutoencoderTiny"}')
    assert "tiny: no *.safetensors in the folder of 'm'" in refusal(card)
    (config.parent / "diffusion_pytorch_model.bin").write_bytes(b"x")
    assert "weights as a pickle" in refusal(card)
    (config.parent / "diffusion_pytorch_model.bin").unlink()
    (config.parent / "diffusion_pytorch_model.safetensors").write_bytes(EMPTY)
    assert check_model_folder(card) == tmp_path / "model"


@pytest.mark.parametrize("name", ["/etc", "../x", "a/../x", ".hidden"])
def test_a_tiny_decoder_is_in_the_models_own_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="tiny_decoder: "):
        write_card(tmp_path, "t2i", "sdxl", {"tiny_decoder": name})


@pytest.mark.parametrize(
    ("family", "model_type"),
    [
        ("qwen2.5", "qwen2"),
        ("qwen3", "qwen3"),
        ("qwen3-moe", "qwen3_moe"),
        ("llama3.1", "llama"),
        ("Mistral", "mistral"),
    ],
)
def test_a_family_is_its_model_type_with_or_without_a_version(tmp_path: Path, family: str, model_type: str) -> None:
    write_config(tmp_path, {"model_type": model_type})
    assert check_model_folder(write_card(tmp_path, "llm", family)) == tmp_path / "model"


@pytest.mark.parametrize(
    ("family", "model_type"), [("llava-onevision", "llava"), ("qwen3-moe", "qwen3"), ("qwen3", "")]
)
def test_a_family_that_begins_like_another_is_another(tmp_path: Path, family: str, model_type: str) -> None:
    write_config(tmp_path, {"model_type": model_type})
    assert f"model_type is {model_type!r}, but" in refusal(write_card(tmp_path, "llm", family))


def test_another_familys_folder_is_refused_with_both_names(tmp_path: Path) -> None:
    write_config(tmp_path, {"model_type": "llama"})
    assert refusal(write_card(tmp_path, "llm", "qwen3")) == (
        "ROOT/model/config.json: model_type is 'llama', but ROOT/m.md says family 'qwen3'; put the right folder there, "
        "or write 'family: llama'"
    )


def test_a_language_model_is_refused_as_a_vlm(tmp_path: Path) -> None:
    write_config(tmp_path, {"model_type": "qwen2"})
    assert "without vision_config cannot see images; role vlm needs" in refusal(write_card(tmp_path, "vlm", "qwen2.5"))


@pytest.mark.parametrize("role", ["vlm", "llm"])
def test_weights_without_their_configuration_are_refused(tmp_path: Path, role: str) -> None:
    write_config(tmp_path, {}, "generation_config.json")
    assert refusal(write_card(tmp_path, role, "qwen3")).startswith("ROOT/model: no config.json; copy all")
    (tmp_path / "model/config.json").write_text("{")
    assert "config.json: cannot be read as JSON" in refusal(write_card(tmp_path, role, "qwen3"))


def test_a_backbones_folder_is_timms_with_its_architecture(tmp_path: Path) -> None:
    write_config(tmp_path, {"architecture": "resnet50"})
    card = write_card(tmp_path, "backbone", "timm")
    assert check_model_folder(card) == tmp_path / "model"
    write_config(tmp_path, {"model_type": "resnet"})
    assert refusal(card) == "ROOT/model/config.json: architecture is None, expected timm's name of a network"
    (tmp_path / "model/config.json").unlink()
    assert refusal(card).startswith("ROOT/model: no config.json")


def test_another_pipelines_folder_is_refused_as_t2i(tmp_path: Path) -> None:
    write_config(tmp_path, {"_class_name": "StableDiffusionPipeline"}, "model_index.json")
    assert "_class_name is 'StableDiffusionPipeline', expected a StableDiffusionXL" in refusal(
        write_card(tmp_path, "t2i", "sdxl")
    )
    (tmp_path / "model/model_index.json").unlink()
    assert refusal(write_card(tmp_path, "t2i", "sdxl")).startswith("ROOT/model: no model_index.json")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_a_pipeline_that_lacks_a_parts_weights_or_the_part_is_refused(tmp_path: Path, part: str) -> None:
    card = write_card(tmp_path, "t2i", "sdxl")
    shutil.copytree(MINIATURES / "sdxl", tmp_path / "model")
    (weights,) = (tmp_path / "model" / part).glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))
    assert f"ROOT/model/{part}/{weights.stem}.bin: weights as a pickle" in refusal(card)
    weights.with_suffix(".bin").unlink()
    assert refusal(card).startswith(f"ROOT/model/{part}: no *.safetensors in the folder of 'm'")
    shutil.rmtree(tmp_path / "model" / part)
    assert refusal(card).startswith(f"ROOT/model/{part}: not there, but model_index.json names it")


def test_the_two_layouts_of_clip_are_told_apart_with_what_to_write(tmp_path: Path) -> None:
    write_config(tmp_path, {"model_type": "clip"})
    assert refusal(write_card(tmp_path, "clip", "open_clip")) == (
        "ROOT/model: no open_clip_config.json, which a clip of family open_clip needs; it has config.json: "
        "write 'family: transformers_clip' in ROOT/m.md"
    )
    check_model_folder(write_card(tmp_path, "clip", "transformers_clip"))
    write_config(tmp_path, {"model_type": "siglip"})
    assert "model_type is 'siglip', expected 'clip'" in refusal(write_card(tmp_path, "clip", "transformers_clip"))


def test_what_publishers_ship_beside_the_weights_is_left_alone(tmp_path: Path) -> None:
    """Meta's original pickles, which the card names, and the OpenVINO copies of Stable Diffusion XL are never read."""
    write_config(tmp_path, {"model_type": "llama"})
    (tmp_path / "model/original").mkdir()
    (tmp_path / "model/original/consolidated.00.pth").write_bytes(b"x")
    assert "original/consolidated.00.pth: weights as a pickle" in refusal(write_card(tmp_path, "llm", "llama"))
    check_model_folder(write_card(tmp_path, "llm", "llama", {"unused": ["original/*"]}))
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(MINIATURES / "sdxl", tmp_path / "model")
    for name in ("unet/openvino_model.bin", "vae_decoder/openvino_model.bin", "vae_decoder/config.json"):
        (tmp_path / "model" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_bytes(b"{}")
    check_model_folder(write_card(tmp_path, "t2i", "sdxl"))
