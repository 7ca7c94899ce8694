"""FIFOs, devices, links, endless nesting and odd names in a folder of weights: named at once, and never opened."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.errors import BackendError, ModelError
from ltgc_local.model_store import files as store_files
from ltgc_local.model_store.architecture import open_clip_weights
from ltgc_local.model_store.cards import ModelCard, read_card
from ltgc_local.model_store.files import digest_folder
from ltgc_local.model_store.folders import check_model_folder
from tests.model_store.folders_of_roles import card_of, copy_folder, edit_json, validate

FILES = {
    "llm": ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja", "README.md"],
    "t2i": ["model_index.json", "unet/config.json", "vae/diffusion_pytorch_model.fp16.safetensors"],
    "clip": ["open_clip_config.json", "open_clip_model.safetensors", "merges.txt"],
}
PLACES = [(role, name) for role, names in FILES.items() for name in names]
SECONDS = 2


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def nowhere(path: Path) -> None:
    path.symlink_to("gone")


def listening(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "FIFO": (fifo, "not a regular file but a FIFO"),
    "device": (device, "not a regular file but a device"),
    "socket": (listening, "not a regular file but a socket"),
    "link to nowhere": (nowhere, "No such file or directory"),
}


def card_in(folder: Path, role: str) -> ModelCard:
    return read_card(card_of(role, folder))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("role", "name"), PLACES)
def test_what_is_no_regular_file_is_named_at_once(role: str, name: str, kind: str, tmp_path: Path) -> None:
    make, words = KINDS[kind]
    folder = copy_folder(role, tmp_path)
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        check_model_folder(card_in(folder, role))
    assert str(caught.value) == f"{folder / name}: cannot be read: {words}; remove it, or copy it again"
    with pytest.raises(ModelError, match=f"{name}: cannot be read: {words}"):
        digest_folder(folder)
    assert time.monotonic() - start < SECONDS
    assert validate(role, folder).exit_code == 3


def test_a_link_to_a_regular_file_passes_as_in_the_caches_of_hubs(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    (tmp_path / "blobs").mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(tmp_path / "blobs" / str(number))
        file.symlink_to(f"../blobs/{number}")
    assert check_model_folder(card_in(folder, "llm")) == folder


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"])
@pytest.mark.parametrize("content", ["[" * 200_000, '{"a":' * 200_000, "[[],", "{", "[]", '"x"', "\xff"])
def test_json_that_is_damaged_or_nested_without_end_is_named(name: str, content: str, tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    (folder / name).write_bytes(content.encode("latin-1"))
    start = time.monotonic()
    result = validate("llm", folder)
    assert time.monotonic() - start < SECONDS + 2
    assert result.exit_code == 3
    assert result.stderr.startswith(f"{folder / name}: ") and "copy it again" in result.stderr


def test_json_of_more_lists_or_bytes_than_any_models_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    (folder / "vocab.json").write_text("[" + "[]," * 3_500_000 + "[]]")
    (folder / "config.json").write_text(" " * 9_000_000 + "{}")
    told = validate("llm", folder).stderr
    assert f"{folder}/vocab.json: cannot be read as JSON (more than 6000000 values)" in told
    assert f"{folder}/config.json: cannot be read as JSON (9000002 bytes, but at most 8388608 are read)" in told


def test_a_file_whose_name_no_terminal_shows_is_refused(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    bad = folder / "a\x1b[31m.txt"
    bad.write_text("x")
    with pytest.raises(ModelError, match=r"a file's name is 'a\\x1b\[31m\.txt'; rename or remove it"):
        check_model_folder(card_in(folder, "llm"))
    bad.unlink()
    os.close(os.open(os.fsencode(folder) + b"/\xff.txt", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(ModelError, match=r"a file's name is '\\udcff\.txt'; rename or remove it"):
        digest_folder(folder)


def test_a_path_that_is_a_loop_of_links_is_no_folder(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(folder)
    with pytest.raises(ModelError, match="no weights of 'miniature-qwen3'"):
        check_model_folder(card_in(folder, "llm"))


def test_open_clips_weights_are_safetensors_whatever_lies_beside_them(tmp_path: Path) -> None:
    folder = copy_folder("clip", tmp_path)
    own = folder / "open_clip_model.safetensors"
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"x")
    assert open_clip_weights(folder) == own
    renamed = own.rename(folder / "weights.safetensors")  # open_clip itself would take the pickle now
    assert open_clip_weights(folder) == renamed
    (folder / "second.safetensors").write_bytes(renamed.read_bytes())
    with pytest.raises(ModelError, match=r"2 files of weights, such as second\.safetensors and weights\.safetensors"):
        open_clip_weights(folder)
    (folder / "model.safetensors").write_bytes(renamed.read_bytes())
    assert open_clip_weights(folder).name == "model.safetensors"
    for file in folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match=r"no \*\.safetensors; get or make"):
        open_clip_weights(folder)


def test_a_lack_of_memory_is_no_damage_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_folder("llm", tmp_path)
    edit_json(folder / "vocab.json", x="y" * 60_000_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (size + 20_000_000, hard))
        with pytest.raises(BackendError, match="out of memory while it is checked; end what else uses") as caught:
            check_model_folder(card_in(folder, "llm"))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert caught.value.exit_code == 6

    def full(path: Path) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory", str(path))

    monkeypatch.setattr("ltgc_local.model_store.folders.check_kind", full)
    with pytest.raises(BackendError, match="out of memory while it is checked"):
        check_model_folder(card_in(folder, "llm"))


@pytest.mark.parametrize("value", [{"quant_method": "AWQ"}, {"quant_method": "compressed-tensors"}, None, {}])
def test_weights_that_are_quantised_by_numbers_alone_pass_the_reading(value: object, tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    edit_json(folder / "config.json", quantization_config=value, auto_map=None, _attn_implementation="sdpa")
    assert validate("llm", folder).exit_code == 0


def test_json_objects_are_read_in_one_place(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}))
    assert store_files.read_json(tmp_path / "a.json") == {"a": 1}
    with pytest.raises(ModelError, match=r"b\.json: cannot be read as JSON \(No such file or directory\)"):
        store_files.read_json(tmp_path / "b.json")


def test_a_folder_of_too_many_files_is_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card may name any folder of the machine, such as its root."""
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("x")
    assert len(store_files.model_files(tmp_path)) == 5
    monkeypatch.setattr(store_files, "MAX_FILES", 4)
    with pytest.raises(ModelError, match="more than 4 files, not a model's folder; correct 'path' in its card"):
        store_files.model_files(tmp_path)
