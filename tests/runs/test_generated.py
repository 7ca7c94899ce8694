"""Generated images by row, over several files, decoded when asked for."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from PIL import Image

from ltgc_local.runs.files import GeneratedImage, Images, encode_png
from ltgc_local.runs.generated import GeneratedSplit


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files of 2, 0 and 3 images, whose grey is their number."""
    paths, number = [], 0
    for index, num in enumerate((2, 0, 3)):
        rows = []
        for _ in range(num):
            image = encode_png(Image.new("L", (4, 4), number))
            rows.append(GeneratedImage(image, number % 2, "bag", number, "A bag.", 1, 7))
            number += 1
        paths.append(tmp_path / f"images-{index}.parquet")
        Images("images", rows).write(paths[-1])
    return paths


def test_rows_go_on_from_file_to_file(files: list[Path]) -> None:
    split = GeneratedSplit("generated", files)
    assert (len(split), split.name, split.files) == (5, "generated", tuple(files))
    assert split.labels.tolist() == [0, 1, 0, 1, 0]
    assert tuple(split.keys) == ("0_0_1", "1_1_1", "0_2_1", "1_3_1", "0_4_1")
    assert [split.image(row).getpixel((0, 0)) for row in (4, 0, 2, 1, 3)] == [4, 0, 2, 1, 3]


def test_it_goes_to_another_process(files: list[Path]) -> None:
    again = pickle.loads(pickle.dumps(GeneratedSplit("generated", files)))  # noqa: S301 (made in this line)
    assert again.image(3).getpixel((0, 0)) == 3


def test_a_row_that_is_not_there_and_no_file_at_all(files: list[Path]) -> None:
    with pytest.raises(IndexError, match="no generated image 5; there are 5"):
        GeneratedSplit("generated", files).image(5)
    with pytest.raises(IndexError, match="no generated image -1"):
        GeneratedSplit("generated", files).image(-1)
    empty = GeneratedSplit("generated", [])
    assert len(empty) == 0 and empty.labels.dtype == "int64"
