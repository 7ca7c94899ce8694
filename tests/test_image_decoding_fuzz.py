"""Damaged images: whatever bytes are changed, an image decodes or is refused, in time and in bounded memory."""

from __future__ import annotations

import io
import os
import resource
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ltgc_local.image_decoding import ImageRules, UndecodableError, decode
from tests.promptly import within

RULES = ImageRules(16_000_000, "white")  # the most of which copies fit into ``MAX_BYTES``
MAX_BYTES = 500 * 2**20


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def valid_images() -> dict[str, bytes]:
    """Return small images of every format and of the modes that are treated apart."""
    values = np.arange(8 * 6 * 4, dtype=np.uint8).reshape(6, 8, 4)
    colour, alpha = Image.fromarray(values[..., :3].copy()), Image.fromarray(values)
    wide = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "PNG": encoded(alpha, "PNG", exif=exif),
        "PNG of 16 bits": encoded(wide, "PNG"),
        "PNG of a palette": encoded(colour.quantize(4), "PNG", transparency=1),
        "JPEG": encoded(colour, "JPEG", exif=exif),
        "JPEG of inks": encoded(colour.convert("CMYK"), "JPEG"),
        "progressive JPEG": encoded(colour, "JPEG", progressive=True),
        "MPO": encoded(colour, "MPO", save_all=True, append_images=[colour]),
        "GIF": encoded(colour.quantize(4), "GIF", save_all=True, append_images=[colour.quantize(3)], transparency=1),
        "TIFF": encoded(alpha, "TIFF"),
        "TIFF by LZW": encoded(wide, "TIFF", compression="tiff_lzw"),
        "TIFF by JPEG": encoded(colour, "TIFF", compression="jpeg"),
        "TIFF by deflate": encoded(colour, "TIFF", compression="tiff_adobe_deflate", exif=exif),
        "BMP": encoded(colour, "BMP"),
        "BMP of a palette": encoded(colour.quantize(4), "BMP"),
        "WebP": encoded(colour, "WEBP", exif=exif),
        "lossless WebP": encoded(alpha, "WEBP", lossless=True),
        "PPM": encoded(colour, "PPM"),
        "PGM of 16 bits": encoded(wide, "PPM"),
        "plain PGM": b"P2 3 2 7 1 2 3 4 5 6\n",
    }


IMAGES = valid_images()


@contextmanager
def little_memory() -> Iterator[None]:
    """Let the process have ``MAX_BYTES`` more than it has."""
    if sys.platform != "linux":
        yield
        return
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MAX_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("kind", IMAGES)
def test_the_images_that_are_damaged_below_are_whole(kind: str) -> None:
    assert decode(IMAGES[kind], RULES, "x").image.mode in ("L", "RGB")


#: What makes fields of headers absurd: none, all, the sign, small counts.
BYTES = st.one_of(st.sampled_from([0, 1, 2, 3, 4, 8, 16, 0x7F, 0x80, 0xFF]), st.integers(0, 255))
CHANGES = st.lists(st.tuples(st.integers(0, 400), BYTES), min_size=1, max_size=6)


@settings(max_examples=600)
@given(st.sampled_from(sorted(IMAGES)), CHANGES, st.integers(0, 60), st.booleans())
@example("GIF", [(6, 0xFF), (7, 0xFF), (8, 0xFF), (9, 0xFF)], 0, False)
@example("PNG", [(16, 0x00), (17, 0x00), (18, 0x1F), (20, 0x00), (22, 0x1F)], 0, False)
def test_a_damaged_image_decodes_or_is_refused(
    kind: str, changes: list[tuple[int, int]], missing: int, cut: bool
) -> None:
    content = bytearray(IMAGES[kind])
    for at, value in changes:
        content[at % len(content)] = value
    content = content[: -missing or None] if cut else content
    with warnings.catch_warnings(), little_memory(), within(2):
        warnings.simplefilter("ignore")  # Pillow's, of tags that it cannot read
        try:
            image = decode(bytes(content), RULES, "x").image
        except UndecodableError as error:
            assert str(error)
        else:
            assert image.mode in ("L", "RGB") and image.width * image.height <= RULES.max_pixels


@settings(max_examples=100)
@given(st.binary(max_size=64), st.sampled_from([b"", *(content[:12] for content in IMAGES.values())]))
def test_any_bytes_decode_or_are_refused(rest: bytes, start: bytes) -> None:
    with warnings.catch_warnings(), little_memory(), within(2):
        warnings.simplefilter("ignore")
        try:
            decode(start + rest, RULES, "x")
        except UndecodableError as error:
            assert str(error)
