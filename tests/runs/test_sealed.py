"""A sealed file is read as it was written, or named as damaged: every flipped bit, every cut."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.schemas import Chunk, Manifest, ModelFile, ProvenanceFile, TableOrder
from ltgc_local.runs.sealed import read_object, read_sealed, unseal, write_sealed

VALUE = {"name": "é\u2028", "sha": {"sha256": "x"}, "numbers": [1, 2.5, None]}
CHUNK = {"files": {"a-00000.jsonl": {"bytes": 3, "sha256": "0" * 64}}, "items": 1, "seconds": 0.5, "peak_mib": 7}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_sealed(tmp_path / "x.json", VALUE)
    return tmp_path / "x.json"


def test_it_is_json_for_people_and_comes_back_without_its_seal(path: Path) -> None:
    assert read_object(path, "") == VALUE
    assert list(json.loads(path.read_text())) == [*VALUE, "sha256"]
    assert read_object(path.with_name("absent.json"), "") is None


def test_every_flipped_bit_is_seen(path: Path) -> None:
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            with pytest.raises(ValueError):
                unseal(bytes(flipped))


def test_every_cut_is_seen(path: Path) -> None:
    content = path.read_bytes()
    for length in range(len(content)):
        with pytest.raises(ValueError):
            unseal(content[:length])


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_an_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        unseal(content)


def test_damage_is_one_message_with_file_problem_and_remedy(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"2.5", b"3.5"))
    with pytest.raises(ArtefactError) as caught:
        read_object(path, "type: this")
    assert str(caught.value) == (f"{path}: damaged: its sha256 is not the one that it was written with; type: this")


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name, kind in (("fifo", "a FIFO"), ("zero", "a device")):
        with pytest.raises(ArtefactError, match=f"{name}.json: damaged: not a regular file but {kind}"):
            read_object(tmp_path / f"{name}.json", "")


def test_a_file_that_is_nested_too_deeply_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[" * 200_000)
    with pytest.raises(ArtefactError, match="damaged"):
        read_object(path, "")


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        (Chunk, {}, "files: Field required"),
        (Chunk, CHUNK | {"items": "1"}, "items: Input should be a valid integer"),
        (Chunk, CHUNK | {"items": -1}, "items: Input should be greater than or equal to 0"),
        (Chunk, CHUNK | {"more": 1}, "more: Extra inputs are not permitted"),
        (Chunk, CHUNK | {"files": {"../../../etc/hostname": {"bytes": 1, "sha256": "0" * 64}}}, "should match"),
        (Chunk, CHUNK | {"files": {"/etc/hostname.x": {"bytes": 1, "sha256": "0" * 64}}}, "should match"),
        (Chunk, CHUNK | {"files": {"no_suffix": {"bytes": 1, "sha256": "0" * 64}}}, "should match"),
        (Manifest, CHUNK, "step: Field required"),
        (ProvenanceFile, {"models": []}, "ltgc_local: Field required"),
        (TableOrder, {"rows": "a"}, "rows: Input should be a valid list"),
    ],
)
def test_what_does_not_fit_its_schema_is_damaged(tmp_path: Path, schema: Any, value: Any, words: str) -> None:
    write_sealed(tmp_path / "x.json", value)
    with pytest.raises(ArtefactError) as caught:
        read_sealed(tmp_path / "x.json", schema, "type: this")
    assert words in str(caught.value) and str(caught.value).endswith("; type: this")


def test_a_chunk_that_fits_is_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "x.json", CHUNK)
    chunk = read_sealed(tmp_path / "x.json", Chunk, "")
    assert chunk is not None and chunk.files["a-00000.jsonl"].bytes == 3


def test_provenance_written_with_the_former_spelling_of_license_is_read() -> None:
    facts = {"card": "tiny-clip", "evidence": "miniature", "licence": "MIT", "digest": "ab"}
    assert ModelFile.model_validate(facts).license == "MIT"
