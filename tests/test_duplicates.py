"""Duplicates: what each measure is robust to, and the blockwise searches against plain ones."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ltgc_local.evaluation import duplicates
from ltgc_local.evaluation.duplicates import (
    closest_by_cosine,
    closest_by_hash,
    equal_rows,
    perceptual_hashes,
    pixel_digests,
)


def scene(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Return a smooth image, as photographs are: a few coarse random patches, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


def distance(first: Image.Image, second: Image.Image) -> int:
    one, two = perceptual_hashes([first, second])
    return int(np.bitwise_count(one ^ two))


@pytest.mark.parametrize("seed", range(5))
def test_a_hash_survives_format_and_size_and_tells_scenes_apart(seed: int) -> None:
    image = scene(seed)
    assert distance(image, image.copy()) == 0
    assert distance(image, jpeg(image, 60)) <= 4
    assert distance(image, image.resize((60, 45))) <= 4
    assert distance(image, image.convert("L")) <= 4
    assert distance(image, scene(seed + 100)) > 12


def test_a_digest_is_of_the_pixels_and_the_size_alone() -> None:
    image = scene(1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    changed = image.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    grey = Image.new("L", (4, 2), 7)
    images = [
        image,
        Image.open(buffer),
        changed,
        image.resize((90, 120)),
        grey,
        grey.convert("RGB"),
        Image.new("L", (2, 4), 7),
    ]
    digests = [row.tobytes() for row in pixel_digests(images)]
    assert digests[0] == digests[1] and digests[4] == digests[5]
    assert len(set(digests)) == 5
    assert pixel_digests([]).shape == (0, 16) and perceptual_hashes([]).shape == (0,)


def test_a_hash_is_the_sign_of_the_low_frequencies_about_their_median() -> None:
    # A left-right cosine of one half period is frequency (0, 1) alone: it and the mean stand above the rest.
    wave = 128 + 100 * np.cos((2 * np.arange(32) + 1) * np.pi / 64)
    image = Image.fromarray(np.tile(wave, (32, 1)).astype(np.uint8))
    bits = f"{int(perceptual_hashes([image])[0]):064b}"
    assert bits[0] == bits[1] == "1"


HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40).map(lambda v: np.array(v, dtype=np.uint64))


@given(queries=HASHES, references=HASHES)
def test_the_closest_hash_is_the_plain_searchs(queries: np.ndarray, references: np.ndarray) -> None:
    rows, distances = closest_by_hash(queries, references)
    plain = [[(int(q) ^ int(r)).bit_count() for r in references] for q in queries]
    assert distances.tolist() == [min(row) for row in plain]
    assert all(plain[i][row] == distances[i] for i, row in enumerate(rows))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 70, dtype=np.uint64), rng.integers(0, 2**63, 90, dtype=np.uint64)
    vectors = [
        v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rng.normal(size=(70, 8)), rng.normal(size=(90, 8)))
    ]
    whole = *closest_by_hash(*hashes), *closest_by_cosine(*vectors)
    monkeypatch.setattr(duplicates, "QUERY_BLOCK", 7)
    monkeypatch.setattr(duplicates, "REFERENCE_BLOCK", 11)
    monkeypatch.setattr(duplicates, "HASH_QUERY_BLOCK", 4)
    monkeypatch.setattr(duplicates, "HASH_REFERENCE_BLOCK", 13)
    parts = *closest_by_hash(*hashes), *closest_by_cosine(*vectors)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_allclose(whole[3], (vectors[0] @ vectors[1].T).max(1), rtol=1e-5)
    assert whole[2].tolist() == (vectors[0] @ vectors[1].T).argmax(1).tolist()


def test_equal_rows_are_the_first_or_none() -> None:
    references = np.array([[1] * 16, [2] * 16, [1] * 16], dtype=np.uint8)
    queries = np.array([[2] * 16, [1] * 16, [3] * 16], dtype=np.uint8)
    assert equal_rows(queries, references).tolist() == [1, 0, -1]


def test_a_hundred_million_pairs_of_hashes_take_seconds() -> None:
    import time

    rng = np.random.default_rng(0)
    queries, references = (rng.integers(0, 2**63, n, dtype=np.uint64) for n in (2_000, 50_000))
    start = time.process_time()
    closest_by_hash(queries, references)
    assert time.process_time() - start < 5  # about 0.1 s


def test_the_module_needs_no_torch() -> None:
    assert "torch" not in Path(duplicates.__file__).read_text("utf-8")
