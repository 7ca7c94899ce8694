"""The Parquet reader: what it reads, lazily, and what it refuses."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ltgc_local.datasets.parquet import open_parquet
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data


def encode(value: int, mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_parquet(Data(root=root), "tiny", made_by="make tiny")
    assert caught.value.exit_code == 4
    return str(caught.value).replace(str(root), "ROOT")


def test_keys_labels_and_names_come_without_images(root: Path) -> None:
    corpus = open_parquet(Data(root=root), "tiny")
    assert corpus.class_names == ("bag", "coat")
    assert list(corpus.train.keys) == ["train/00000", "train/00001", "train/00002"]
    assert corpus.train.labels.dtype == np.int64
    assert corpus.train.labels.tolist() == [0, 1, 1]
    assert corpus.class_counts() == {0: 1, 1: 2}
    assert len(corpus.val) == 3


def test_labels_cannot_be_changed(root: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        open_parquet(Data(root=root), "tiny").train.labels[0] = 1


@pytest.mark.parametrize("row_group_size", [None, 1, 2])
def test_images_come_by_row_whatever_the_row_groups(root: Path, write_split: Any, row_group_size: int | None) -> None:
    write_split("train", labels=(0, 1, 1, 0, 1), row_group_size=row_group_size)
    split = open_parquet(Data(root=root), "tiny").train
    values = [picture.getpixel((0, 0)) for picture in split.images([4, 0, 2, 1, 3])]
    assert values == [4, 0, 2, 1, 3]
    assert {picture.mode for picture in split.images(range(5))} == {"L"}


def test_a_row_that_is_not_there_is_an_index_error(root: Path) -> None:
    split = open_parquet(Data(root=root), "tiny").train
    for row in (-1, 3):
        with pytest.raises(IndexError):
            split.image(row)


@pytest.mark.parametrize(("mode", "expected"), [("RGB", "RGB"), ("RGBA", "RGB"), ("P", "RGB"), ("1", "L"), ("L", "L")])
def test_images_are_grey_or_colour_and_nothing_else(root: Path, write_split: Any, mode: str, expected: str) -> None:
    write_split("train", images=[encode(1, mode)] * 3)
    assert open_parquet(Data(root=root), "tiny").train.image(0).mode == expected


def test_a_split_pickles_small_and_reads_on(root: Path) -> None:
    split = open_parquet(Data(root=root), "tiny").train
    split.image(0)
    copy = pickle.loads(pickle.dumps(split))  # noqa: S301
    assert copy.image(2).getpixel((0, 0)) == 2


def test_the_digest_follows_the_content_and_not_the_place(root: Path, write_split: Any, tmp_path_factory: Any) -> None:
    before = open_parquet(Data(root=root), "tiny").digest()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(root, elsewhere, dirs_exist_ok=True)
    assert open_parquet(Data(root=elsewhere), "tiny").digest() == before
    assert len(before) == 16
    write_split("val", labels=(1, 1, 1))
    assert open_parquet(Data(root=root), "tiny").digest() != before


def test_a_file_replaced_while_in_use_is_noticed(root: Path, write_split: Any) -> None:
    split = open_parquet(Data(root=root), "tiny").train
    os.utime(write_split("train", labels=(1, 1, 1)), ns=(0, 0))
    with pytest.raises(DataError, match="changed while it was in use"):
        split.image(0)


def test_what_is_missing_is_said_with_the_command_that_makes_it(root: Path) -> None:
    where = "tiny is train.parquet, val.parquet and test.parquet in this folder; type: make tiny"
    (root / "val.parquet").unlink()
    assert refusal(root) == f"ROOT: val.parquet not there; {where}"
    assert refusal(root / "no") == f"ROOT: no such folder; {where}"


def test_a_file_that_is_not_parquet_or_truncated_is_refused(root: Path) -> None:
    whole = (root / "test.parquet").read_bytes()
    for content in (b"", b"hello, this is no Parquet", whole[: len(whole) // 2]):
        (root / "test.parquet").write_bytes(content)
        assert refusal(root).startswith("ROOT/test.parquet: not a Parquet file, or a damaged one: ")


def test_a_flipped_bit_of_the_footer_never_gives_keys_without_labels(root: Path) -> None:
    path = root / "test.parquet"
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    refused = 0
    for place in range(footer, len(whole) - 8):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        try:
            test = open_parquet(Data(root=root), "tiny").test
        except DataError:
            refused += 1
        else:
            assert len(test.keys) == len(test.labels) == len(test)
    assert refused > 10


def test_missing_columns_and_wrong_types_are_refused(root: Path) -> None:
    table = pq.read_table(root / "train.parquet")
    pq.write_table(table.rename_columns(["picture", "label"]), root / "train.parquet")
    assert refusal(root) == (
        "ROOT/train.parquet: no column 'image' (a struct of 'bytes' and 'path'); its columns are picture, label; "
        "type: make tiny"
    )
    pq.write_table(table.drop_columns(["label"]), root / "train.parquet")
    assert (
        refusal(root) == "ROOT/train.parquet: no column 'label' (whole numbers); its columns are image; type: make tiny"
    )
    with pytest.raises(
        DataError, match=r"its columns are image: name them by data\.image_column and data\.label_column"
    ):
        open_parquet(Data(root=root), "tiny")
    text = table.set_column(1, "label", pa.array(["a", "b", "c"]))
    pq.write_table(text, root / "train.parquet")
    assert refusal(root) == (
        "ROOT/train.parquet: column 'label' is string, expected whole numbers; "
        "type dataset.class_encode_column('label'), and save it"
    )
    pq.write_table(table.set_column(0, "image", pa.array([b"a", b"b", b"c"])), root / "train.parquet")
    assert refusal(root) == (
        "ROOT/train.parquet: column 'image' is binary, expected a struct of 'bytes' and 'path'; "
        "type dataset.cast_column('image', Image()), and save it"
    )


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (
            {"labels": (0, 2, 1)},
            "tiny train: label 2 of train/00001 has no class name: expected 0 to 1 (1 such labels)",
        ),
        (
            {"labels": (0, -1, -1)},
            "tiny train: label -1 of train/00001 has no class name: expected 0 to 1 (2 such labels)",
        ),
        ({"labels": (0, None, 1)}, "ROOT/train.parquet: 1 of 3 labels are missing"),
        (
            {"names": None},
            "ROOT/train.parquet: no class names for 'label'; write the file with datasets' ClassLabel, "
            "which puts them in the schema's 'huggingface' metadata",
        ),
        (
            {"names": ["bag", "hat"]},
            "ROOT/val.parquet: its class names are not train.parquet's: class 1 is 'coat', expected 'hat'; "
            "type: make tiny",
        ),
        (
            {"names": ["bag", "coat", "hat"]},
            "ROOT/val.parquet: its class names are not train.parquet's: 2 names, expected 3; type: make tiny",
        ),
    ],
)
def test_labels_and_names_that_do_not_fit_are_refused(
    root: Path, write_split: Any, broken: dict[str, Any], expected: str
) -> None:
    write_split("train", **broken)
    assert refusal(root) == expected


def test_classes_without_a_name_or_with_the_same_are_refused_by_name(root: Path, write_split: Any) -> None:
    for split in ("train", "val", "test"):
        write_split(split, names=["crane", " Crane "])
    assert refusal(root) == (
        "tiny: classes 0 and 1 are both named ' Crane '; "
        "prompts cannot tell them apart; give each its own name, such as 'crane (bird)'"
    )
    for split in ("train", "val", "test"):
        write_split(split, names=["bag", " "])
    assert refusal(root) == "tiny: class 1 has no name; every class needs one for its prompts"


def test_an_image_that_does_not_decode_names_its_key_and_file(root: Path, write_split: Any) -> None:
    whole = encode(1, "L")
    write_split("train", images=[b"no image", whole[:-20], None])
    split = open_parquet(Data(root=root), "tiny").train
    for row, words in ((0, "does not decode"), (1, "does not decode"), (2, "has no bytes in the file")):
        with pytest.raises(DataError, match=rf"train\.parquet: image train/0000{row} {words}"):
            split.image(row)
