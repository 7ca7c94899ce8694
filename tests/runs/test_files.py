"""Files are whole or not there; images open with ``datasets``."""

from __future__ import annotations

import errno
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ltgc_local.errors import ArtefactError
from ltgc_local.records import Rejected, parse_records
from ltgc_local.runs import arrays
from ltgc_local.runs.arrays import read_table
from ltgc_local.runs.files import (
    GeneratedImage,
    Images,
    Json,
    Lines,
    Table,
    Tensors,
    Text,
    decode_png,
    encode_png,
    read_images,
    write_atomically,
)


@dataclass(frozen=True)
class FullDisk:
    """Writes a part, as a disk does that fills up."""

    kind: str = "text"
    suffix: str = "txt"

    def write(self, path: Path) -> None:
        path.write_text("half of ")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def picture(seed: int, mode: str = "L") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def generated(description_id: int, **other: object) -> GeneratedImage:
    fields = {
        "image": encode_png(picture(description_id)), "class_id": 3, "class_name": "ankle boot",
        "description_id": description_id, "description": "A photo of “it”.", "round": 0, "seed": 2**63 - 1,
    }  # fmt: skip
    return GeneratedImage(**(fields | other))  # type: ignore[arg-type]


def test_a_full_disk_leaves_no_file_and_no_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot be written: No space left"):
        write_atomically(FullDisk(), tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    write_atomically(Text("a", "before"), tmp_path / "a.txt")
    with pytest.raises(ArtefactError, match="cannot be written: No space left"):
        write_atomically(FullDisk(), tmp_path / "a.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


def test_writing_again_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write_atomically(Text("page", text), tmp_path / "page.html")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"page.html": "two"}


def test_lines_hold_one_record_each(tmp_path: Path) -> None:
    records = [Rejected(0, "two\nlines", "reason", "describe"), Rejected(1, "日本\u2028", "", "extend")]
    write_atomically(Lines("rejected", records), tmp_path / "rejected.jsonl")
    lines = (tmp_path / "rejected.jsonl").read_text("utf-8").split("\n")
    assert len(lines) == 3 and lines[2] == ""
    assert parse_records(Rejected, lines) == records


def test_tensors_come_back_also_from_a_view(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor([True, False])}
    write_atomically(Tensors("adapter", tensors), tmp_path / "adapter.safetensors")
    back = load_file(tmp_path / "adapter.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_png_is_lossless_and_the_same_pixels_give_the_same_bytes(mode: str) -> None:
    image = picture(0, mode)
    assert encode_png(image) == encode_png(image.copy())
    back = decode_png(encode_png(image))
    assert (back.mode, back.tobytes()) == (mode, image.tobytes())


def test_generated_images_come_back_in_the_order_of_the_files(tmp_path: Path) -> None:
    shards = [[generated(0), generated(1, score=0.25)], [], [generated(2, round=2)]]
    paths = [tmp_path / f"images-{i:05d}.parquet" for i in range(3)]
    for path, rows in zip(paths, shards, strict=True):
        write_atomically(Images("images", rows), path)
    back = read_images(paths)
    assert [row.key for row in back] == [(3, 0, 0), (3, 1, 0), (3, 2, 2)]
    assert [row.image for row in back] == [row.image for shard in shards for row in shard]
    assert back[1] == generated(1, score=0.25)
    assert math.isnan(back[0].score)


def test_datasets_opens_images_decoded_with_the_promised_columns(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "images-00000.parquet"
    write_atomically(Images("images", [generated(5, score=0.5), generated(6, score=0.25)]), path)
    theirs = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert set(theirs.column_names) >= {
        "image", "class_id", "class_name", "description", "score", "round", "seed", "description_id",
    }  # fmt: skip
    row = theirs[0]
    assert isinstance(row["image"], Image.Image)
    assert row["image"].tobytes() == picture(5).tobytes()
    assert (row["class_id"], row["class_name"], row["score"], row["seed"]) == (3, "ankle boot", 0.5, 2**63 - 1)


def test_the_parquet_names_each_image(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_atomically(Images("images", [generated(5, round=1)]), tmp_path / "a.parquet")
    packed = pq.read_table(tmp_path / "a.parquet")["image"][0].as_py()
    assert packed["path"] == "3_5_1.png"
    assert Image.open(io.BytesIO(packed["bytes"])).size == (6, 6)


def test_json_is_indented_for_people(tmp_path: Path) -> None:
    write_atomically(Json("a", {"ä": [1]}), tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "ä": [\n  1\n ]\n}\n'


@pytest.mark.parametrize("limit", ["MAX_ROWS", "MAX_UNPACKED_BYTES"])
def test_a_table_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    Table("a", {"x": [1, 2]}).write(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet")["x"].tolist() == [1, 2]
    monkeypatch.setattr(arrays, limit, 1)
    with pytest.raises(ArtefactError, match=r"2 rows of .* bytes, more than any step writes into one file"):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "TIFF"])
def test_a_generated_image_is_a_png_and_nothing_else(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, kind)
    for content in (buffer.getvalue(), b"", encode_png(Image.new("L", (4, 4)))[:45]):
        with pytest.raises(ArtefactError, match=r"a generated image does not decode: .*; do its step again"):
            decode_png(content)


def test_a_generated_image_has_no_more_pixels_than_a_recipe_draws() -> None:
    with pytest.raises(ArtefactError, match="4097 x 4096 are 16781312 pixels, but at most 16777216 are read"):
        decode_png(encode_png(Image.new("1", (4097, 4096))))
