"""Model folders: digests, and what is refused without loading a tensor."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ModelCard, read_card
from ltgc_local.model_store.files import digest_folder
from ltgc_local.model_store.folders import check_model_folder
from ltgc_local.model_store.safetensors_files import check_safetensors
from ltgc_local.regular_files import digest_file


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """A card beside a whole folder: model/open_clip_config.json and model/model.safetensors."""
    monkeypatch.delenv("LTGC_MODELS", raising=False)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/open_clip_config.json").write_text("{}")
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.ones(5)}, tmp_path / "model/model.safetensors")
    return write_card(tmp_path, {})


def write_card(folder: Path, sha256: dict[str, str]) -> ModelCard:
    front = {"name": "m", "role": "clip", "family": "open_clip", "path": "model", "evidence": "random"}
    front |= {"license": "MIT", "source": "this test"}
    (folder / "m.md").write_text(f"---\n{json.dumps({**front, 'sha256': sha256})}\n---\nProse.\n")
    return read_card(folder / "m.md")


def tensor(first: int, last: int, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape or [1], "data_offsets": [first, last]}


def header(tensors: dict[str, object]) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text


def nested(depth: int) -> bytes:
    return depth.to_bytes(8, "little") + b"[" * depth


def refusal(card: ModelCard) -> str:
    with pytest.raises(ModelError) as caught:
        check_model_folder(card)
    return str(caught.value).replace(str(card.file.parent), "ROOT")


def test_a_whole_folder_passes_and_is_returned(card: ModelCard, tmp_path: Path) -> None:
    assert check_model_folder(card) == tmp_path / "model"


def test_the_digest_follows_names_and_contents_but_not_place_or_hidden_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub/a.txt").write_text("x")
        (tmp_path / name / "b.txt").write_text("y")
    before = digest_folder(tmp_path / "one")
    assert len(before) == 64
    assert digest_folder(tmp_path / "two") == before
    (tmp_path / "two/.cache").mkdir()
    (tmp_path / "two/.cache/c.txt").write_text("z")
    (tmp_path / "two/.lock").write_text("z")
    assert digest_folder(tmp_path / "two") == before
    (tmp_path / "two/b.txt").write_text("Y")
    assert digest_folder(tmp_path / "two") != before
    (tmp_path / "one/b.txt").rename(tmp_path / "one/c.txt")
    assert digest_folder(tmp_path / "one") != before


def test_the_digest_of_a_folder_that_is_not_there_or_loops_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        digest_folder(tmp_path / "none")
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="may lead back to itself"):
        digest_folder(tmp_path)


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(ModelError, match=r"model\.safetensors: cannot be read: No such file"):
        digest_folder(tmp_path)


def test_a_missing_folder_says_where_to_put_the_weights(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").rename(tmp_path / "other")
    assert refusal(card) == (
        "ROOT/m.md: no weights of 'm': put the folder at $LTGC_MODELS/model ($LTGC_MODELS is not set) "
        "or at ROOT/model; source: this test"
    )
    monkeypatch.setenv("LTGC_MODELS", "/big")
    assert refusal(card) == (
        "ROOT/m.md: no weights of 'm': put the folder at /big/model or at ROOT/model; source: this test"
    )
    monkeypatch.setenv("LTGC_MODELS", os.pathsep.join(("/big", "/bigger")))
    assert "put the folder at /big/model or at /bigger/model or at ROOT/model;" in refusal(card)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.pt", "a.pth", "a.ckpt", "a.pkl"])
def test_pickles_without_safetensors_beside_them_are_refused(card: ModelCard, tmp_path: Path, name: str) -> None:
    (tmp_path / "model/model.safetensors").unlink()
    (tmp_path / "model" / name).write_bytes(b"x")
    assert refusal(card).startswith(f"ROOT/model/{name}: weights as a pickle, which can run any code when loaded")


def test_pickles_beside_safetensors_are_refused_unless_the_card_says_that_they_are_unused(
    card: ModelCard, tmp_path: Path
) -> None:
    (tmp_path / "model/pytorch_model.bin").write_bytes(b"x")
    told = refusal(card)
    assert told == (
        "ROOT/model/pytorch_model.bin: weights as a pickle, which can run any code when loaded; never loaded here. "
        f"Remove it (type: rm {tmp_path}/model/pytorch_model.bin), or, where the publisher ships it, write "
        "'unused: [\"pytorch_model.bin\"]' in ROOT/m.md"
    ).replace(str(tmp_path), "ROOT")
    card.file.write_text(card.file.read_text().replace("{", '{"unused": ["pytorch_*.bin"], ', 1))
    check_model_folder(read_card(card.file))
    (tmp_path / "model/other.bin").write_bytes(b"x")
    assert refusal(read_card(card.file)).startswith("ROOT/model/other.bin: weights as a pickle")


def test_a_folder_without_weights_is_refused(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "model/model.safetensors").unlink()
    assert refusal(card) == "ROOT/model: no *.safetensors in the folder of 'm'; source: this test"


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_truncated_safetensors_are_refused(card: ModelCard, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "model/model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(card).startswith("ROOT/model/model.safetensors: truncated: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            "a git-lfs pointer, not the weights; type: git lfs pull",
        ),
        (b"PK\x03\x04 and so on, a zip file", "not a safetensors file"),
        ((2).to_bytes(8, "little") + b"[]", "not a safetensors file"),
        ((4).to_bytes(8, "little") + b"{{{{", "not a safetensors file"),
        ((8).to_bytes(8, "little") + b'{"a": 1}', "not a safetensors file"),
        (header({"a": tensor(0, 4, dtype="F16")}) + bytes(4), "not a safetensors file"),  # 1 number of 2 bytes in 4
        (header({"a": tensor(4, 8)}) + bytes(8), "not a safetensors file"),  # a gap
        (header({"a": tensor(0, 4), "b": tensor(0, 4)}) + bytes(4), "not a safetensors file"),  # an overlap
        (header({"a": tensor(0, 4, [-1, -1])}) + bytes(4), "not a safetensors file"),
        (header({"a": tensor(0, 4, [2**70])}) + bytes(4), "not a safetensors file"),
        (nested(20_000), "not a safetensors file"),
        (nested(4_000_000), "not a safetensors file"),
        ((2**40).to_bytes(8, "little") + b"{}", "not a safetensors file"),
        ((2).to_bytes(8, "little") + b"{}more", "4 bytes too long"),
    ],
)
def test_what_is_not_safetensors_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        check_safetensors(path)
    assert str(caught.value).startswith(f"{path}: {expected}")


def test_a_part_that_the_index_lists_must_be_there(card: ModelCard, tmp_path: Path) -> None:
    index = tmp_path / "model/model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "second.safetensors"}}))
    assert refusal(card) == (
        "ROOT/model/model.safetensors.index.json: lists 2 files, "
        "of which second.safetensors is not there; copy it again"
    )
    index.write_text("{}")
    assert refusal(card).endswith("not an index of safetensors (no 'weight_map')")


def test_files_are_compared_with_the_cards_sha256(card: ModelCard, tmp_path: Path) -> None:
    right = digest_file(tmp_path / "model/model.safetensors")
    check_model_folder(write_card(tmp_path, {"model.safetensors": right}))
    wrong = write_card(tmp_path, {"model.safetensors": "0" * 64})
    assert refusal(wrong) == (
        f"ROOT/model/model.safetensors: sha256 is {right}, but ROOT/m.md says {'0' * 64}; copy it again"
    )
    check_model_folder(wrong, hash_files=False)
    absent = write_card(tmp_path, {"vae/model.safetensors": right})
    assert refusal(absent) == "ROOT/model/vae/model.safetensors: not there, but ROOT/m.md lists it under sha256"
