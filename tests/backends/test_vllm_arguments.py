"""What vLLM's engine is given; vLLM itself is not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.backends.protocols import TextOptions
from ltgc_local.backends.text.vllm_models import engine_arguments

MINIATURE = Path(__file__).resolve().parents[2] / "data/miniatures/qwen2.5-vl"


#: How the publisher's folders, and those that a new transformers saves, write their processor's limits.
PUBLISHED = {"preprocessor_config.json": {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14}}
SIZE = {"size": {"shortest_edge": 3136, "longest_edge": 12845056}}
SAVED = {"processor_config.json": {"image_processor": SIZE}}
WITH_NULLS = {"preprocessor_config.json": {"min_pixels": None, "max_pixels": None, **SIZE}}


def arguments_for(
    folder: Path, config: dict[str, Any], sees_images: bool, device: str = "cuda", max_pixels: int = 512 * 512
) -> dict[str, Any]:
    (folder / "config.json").write_text(json.dumps(config))
    options = TextOptions(max_model_len=4096, max_pixels=max_pixels, tensor_parallel=2)
    return engine_arguments(folder, options, device, sees_images)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"])
@pytest.mark.parametrize("files", [PUBLISHED, SAVED, WITH_NULLS])
@pytest.mark.parametrize(
    ("max_pixels", "expected"),
    [
        (512 * 512, {"max_pixels": 512 * 512}),
        (64, {"max_pixels": 3136}),  # the least that the processor takes
        (12845055, {"max_pixels": 12845055}),
        (12845056, None),
        (20_000_000, None),  # it would raise the processor's limit
    ],
)
def test_the_largest_image_that_vllm_plans_for_is_the_largest_that_it_is_shown(
    tmp_path: Path, family: str, files: dict[str, Any], max_pixels: int, expected: dict[str, int] | None
) -> None:
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    found = arguments_for(tmp_path, {"model_type": family}, sees_images=True, max_pixels=max_pixels)
    assert found.get("mm_processor_kwargs") == expected
    assert found["limit_mm_per_prompt"] == {"image": 1, "video": 0}


def test_the_miniature_keeps_its_own_limit() -> None:
    found = engine_arguments(MINIATURE, TextOptions(), "cpu", sees_images=True)
    assert "mm_processor_kwargs" not in found  # 1024 pixels


@pytest.mark.parametrize("family", ["llava", "llava_onevision"])
def test_a_processor_of_fixed_sizes_is_told_none(tmp_path: Path, family: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PUBLISHED["preprocessor_config.json"]))
    found = arguments_for(tmp_path, {"model_type": family}, sees_images=True)
    assert "mm_processor_kwargs" not in found and "limit_mm_per_prompt" in found


def test_a_language_model_is_given_nothing_about_images(tmp_path: Path) -> None:
    found = arguments_for(tmp_path, {"model_type": "qwen3"}, sees_images=False)
    assert not {"mm_processor_kwargs", "limit_mm_per_prompt"} & set(found)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({}, 4096),
        ({"max_position_embeddings": 2048}, 2048),
        ({"max_position_embeddings": 32768}, 4096),
        ({"text_config": {"max_position_embeddings": 1024}, "max_position_embeddings": 2048}, 1024),
    ],
)
def test_the_length_is_the_recipes_or_what_the_model_reads(tmp_path: Path, config: dict[str, Any], length: int) -> None:
    assert arguments_for(tmp_path, config, sees_images=False)["max_model_len"] == length


def test_weights_are_safetensors_and_no_code_of_the_folder_is_run(tmp_path: Path) -> None:
    found = arguments_for(tmp_path, {}, sees_images=False)
    assert (found["load_format"], found["trust_remote_code"], found["model"]) == ("safetensors", False, str(tmp_path))
    assert (found["tensor_parallel_size"], found["distributed_executor_backend"]) == (2, "mp")
