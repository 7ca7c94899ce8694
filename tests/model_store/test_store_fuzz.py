"""Whatever a card, a safetensors header or a JSON file of a folder holds: a ModelError with the file, or it is read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import read_card
from ltgc_local.model_store.folders import check_model_folder
from ltgc_local.model_store.safetensors_files import check_safetensors
from tests.model_store.folders_of_roles import ROOT, card_of, copy_folder

SECONDS = 2
FRONT = (ROOT / "model_cards/miniature-sdxl.md").read_text("utf-8").split("---\n")[1]
KEYS = [
    "auto_map", "chat_template", "quantization_config", "model_cfg", "text_cfg", "vision_cfg", "weight_map",
    "_class_name", "model_type", "vision_config", "unet", "scheduler", "dtype", "shape", "data_offsets",
    "__metadata__", "a",
]  # fmt: skip
WORDS = st.sampled_from([*KEYS, "F32", "qwen3", "diffusers", "", "\0", "../x", "{{ 1 }}", "\ud800"]) | st.text(
    max_size=8
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=20
)
YAML_BITS = st.sampled_from(
    [
        *"[]{}:-?&*!|>'\"%@`#,\n\t ",
        "\n",
        ": ",
        "- ",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "? ",
        "---\n",
        "\0",
        "\\U00110000",
        "5_",
    ]
)
in_a_folder = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def survives(read: Callable[[], Any], folder: Path) -> None:
    """Check that reading ends soon, by a result or by an error that names the folder or a file in it."""
    start = time.monotonic()
    try:
        read()
    except ModelError as error:
        assert str(folder) in str(error)
    assert time.monotonic() - start < SECONDS + 2  # on a machine that may be busy


@in_a_folder
@given(
    st.lists(YAML_BITS | st.text(max_size=4), max_size=30).map("".join),
    st.integers(0, len(FRONT)),
    st.integers(0, 40),
)
def test_any_card_is_read_or_refused(tmp_path: Path, text: str, place: int, length: int) -> None:
    card = tmp_path / "miniature-sdxl.md"
    changed = f"---\n{FRONT[:place]}{text}{FRONT[place + length :]}\n---\n"
    card.write_bytes(changed.encode("utf-8", "surrogatepass"))
    survives(lambda: read_card(card), tmp_path)


@in_a_folder
@given(st.binary(max_size=200))
def test_any_bytes_as_a_card_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.md").write_bytes(b"---\n" + content)
    survives(lambda: read_card(tmp_path / "x.md"), tmp_path)


@in_a_folder
@given(st.dictionaries(WORDS, JSON, max_size=4) | JSON, st.binary(max_size=16))
def test_any_safetensors_header_is_read_or_refused(tmp_path: Path, header: object, tail: bytes) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + tail)
    survives(lambda: check_safetensors(tmp_path / "a.safetensors"), tmp_path)


@in_a_folder
@given(st.binary(max_size=64))
def test_any_bytes_as_safetensors_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    survives(lambda: check_safetensors(tmp_path / "a.safetensors"), tmp_path)


@pytest.fixture(scope="module", params=["llm", "clip", "t2i"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, copy_folder(request.param, tmp_path_factory.mktemp(request.param) / "x")


NAMES = {
    "llm": ["config.json", "tokenizer_config.json", "model.safetensors.index.json", "chat_template.json"],
    "clip": ["open_clip_config.json", "tokenizer_config.json"],
    "t2i": ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"],
}


@settings(max_examples=60)
@given(st.data())
def test_any_json_of_a_folder_is_read_or_refused(folder: tuple[str, Path], data: st.DataObject) -> None:
    role, place = folder
    file = place / data.draw(st.sampled_from(NAMES[role]))
    before = file.read_bytes() if file.exists() else None
    value = data.draw(JSON | st.dictionaries(WORDS, JSON, max_size=3))
    if before is not None and isinstance(value, dict):
        value = json.loads(before) | value
    try:
        file.write_text(json.dumps(value))
        survives(lambda: check_model_folder(read_card(card_of(role, place)), hash_files=False), place)
    finally:
        file.unlink() if before is None else file.write_bytes(before)
