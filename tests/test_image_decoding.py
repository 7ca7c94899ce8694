"""Every image is read rightly: exact pixels of every kind, worked out by hand, and what is refused by its header."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltgc_local.errors import BackendError
from ltgc_local.image_decoding import Decoded, ImageRules, UndecodableError, decode

WHITE = ImageRules(64_000_000, "white")


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def read(content: bytes, background: str = "white") -> Decoded:
    return decode(content, ImageRules(64_000_000, background), "the image")


def pixels(content: bytes, background: str = "white") -> list[Any]:
    """Return the pixels of a decoded image by row; of one row that row alone."""
    rows = np.asarray(read(content, background).image).tolist()
    return rows[0] if len(rows) == 1 else rows


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of given parts: Pillow writes few kinds of it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


WIDE = [0, 128, 129, 257, 1000, 32768, 65406, 65535]
#: round(v / 257): 128 / 257 = 0.498, 129 / 257 = 0.502, 1000 / 257 = 3.89, 32768 / 257 = 127.502, 65406 / 257 = 254.5
#: less 0.002.
NARROW = [0, 0, 1, 1, 4, 128, 254, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_grey_bits_are_scaled_and_not_clipped(kind: str) -> None:
    content = encoded(Image.fromarray(np.array([WIDE], dtype=np.uint16)), kind)
    found = read(content)
    assert (found.image.mode, found.had_alpha, found.had_16_bits) == ("L", False, True)
    assert pixels(content) == NARROW


def test_16_bits_of_other_writers_are_read_alike() -> None:
    values = struct.pack(">8H", *WIDE)
    assert pixels(b"P5 8 1 65535\n" + values) == NARROW
    # 1023 of 1023 is white; Pillow scales 512 of 1023 to round(512 / 1023 * 65535) = 32800, and 32800 / 257 = 127.6.
    assert pixels(b"P5 3 1 1023\n" + struct.pack(">3H", 0, 512, 1023)) == [0, 128, 255]
    big_endian = tiff(8, 16, values, order=">")
    assert pixels(big_endian) == NARROW
    # White is zero: 65535 - v.
    assert pixels(tiff(8, 16, struct.pack("<8H", *(65535 - v for v in WIDE)), photometric=0)) == NARROW


def tiff(width: int, bits: int, strip: bytes, *, photometric: int = 1, order: str = "<", form: int = 1) -> bytes:
    """Return an uncompressed grey TIFF of one row."""
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 1)]
    tags += [(279, len(strip)), (339, form)]
    body = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(strip))
    return head + strip + struct.pack(f"{order}H", len(tags)) + body + struct.pack(f"{order}I", 0)


def test_12_bits_are_scaled_by_their_own_white() -> None:
    # 4095 is white. Two values in three bytes: 0x000 0xfff -> 00 0f ff; 0x800 = 2048: round(2048 / 4095 * 255) = 128.
    assert pixels(tiff(2, 12, b"\x00\x0f\xff")) == [0, 255]
    assert pixels(tiff(2, 12, b"\x80\x0f\xff")) == [128, 255]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded(Image.fromarray(np.array([[0.5]], dtype=np.float32)), "TIFF"), "its pixels are fractions, and their"),
        (encoded(Image.fromarray(np.array([[70_000]], dtype=np.int32)), "TIFF"), "signed or 32-bit numbers, and their"),
        (tiff(1, 16, b"\x00\x80", form=2), "signed or 32-bit numbers, and their"),
        (b"Pf 1 1 -1\n" + struct.pack("<f", 0.5), "its pixels are fractions"),
    ],
    ids=["float TIFF", "32-bit TIFF", "signed 16-bit TIFF", "PFM"],
)
def test_numbers_whose_white_is_not_said_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(UndecodableError, match=words) as caught:
        read(content)
    assert str(caught.value).endswith("range is not known; save it with 8 or 16 bits")


HALF = Image.new("RGBA", (2, 1))
HALF.putdata([(200, 100, 0, 128), (10, 20, 30, 0)])
#: On white, round((a c + (255 - a) 255) / 255): (128 * 200 + 127 * 255) / 255 = 227.4; 100 -> 177.2; 0 -> 127.
ON_WHITE = [[227, 177, 127], [255, 255, 255]]


@pytest.mark.parametrize(
    "content",
    [
        encoded(HALF),
        encoded(HALF, "TIFF"),
        encoded(HALF, "WEBP", lossless=True, exact=True),
        png(2, 1, 16, 6, bytes([0, *(byte for value in (200, 100, 0, 128) for byte in (value, 0)), *bytes(8)])),
    ],
    ids=["PNG", "TIFF", "WebP", "PNG of 16 bits"],
)
def test_alpha_is_laid_on_white(content: bytes) -> None:
    found = read(content)
    assert (found.image.mode, found.had_alpha) == ("RGB", True)
    assert pixels(content) == ON_WHITE


@pytest.mark.parametrize(
    ("background", "expected"),
    [
        # (128 * 200 + 127 b) / 255 with b = 0: 100.4, 50.2, 0
        ("black", [[100, 50, 0], [0, 0, 0]]),
        # b = 128: (25600 + 16256) / 255 = 164.1; (12800 + 16256) / 255 = 113.9; 16256 / 255 = 63.7
        ("grey", [[164, 114, 64], [128, 128, 128]]),
        # b = (255, 0, 16): 227.4; 50.2; 127 * 16 / 255 = 8.0
        ("#FF0010", [[227, 50, 8], [255, 0, 16]]),
    ],
)
def test_the_background_is_the_recipes(background: str, expected: list[Any]) -> None:
    assert pixels(encoded(HALF), background) == expected


def test_a_grey_image_on_a_grey_background_stays_grey() -> None:
    faint = Image.new("LA", (2, 1))
    faint.putdata([(200, 128), (10, 0)])
    assert pixels(encoded(faint)) == [227, 255]
    assert pixels(encoded(faint), "#404040") == [132, 64]  # (128 * 200 + 127 * 64) / 255 = 132.3
    assert pixels(encoded(faint), "#ff0010") == [[227, 100, 108], [255, 0, 16]]  # 100.4; (25600 + 2032) / 255 = 108.4
    wide = png(2, 1, 16, 4, bytes([0, 200, 0, 128, 0, 10, 0, 0, 0]))
    assert (read(wide).image.mode, pixels(wide)) == ("L", [227, 255])
    assert read(wide).had_16_bits


PALETTE = (b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # The second of the palette's colours is transparent; then half transparent: green on white, 127.
        (png(3, 1, 8, 3, b"\0\0\1\2", PALETTE, (b"tRNS", b"\xff\0")), [[255, 0, 0], [255, 255, 255], [0, 0, 255]]),
        (png(3, 1, 8, 3, b"\0\0\1\2", PALETTE, (b"tRNS", b"\xff\x80")), [[255, 0, 0], [127, 255, 127], [0, 0, 255]]),
        # One value is transparent: of 8 bits, of 2 (Pillow makes 1 of 3 to 85), of 1, of 16, of colours of 8 and 16.
        (png(3, 1, 8, 0, b"\0\x00\x07\xc8", (b"tRNS", b"\0\x07")), [0, 255, 200]),
        (png(3, 1, 2, 0, b"\0\x18", (b"tRNS", b"\0\1")), [0, 255, 170]),
        (png(3, 1, 4, 0, b"\0\x01\x20", (b"tRNS", b"\0\1")), [0, 255, 34]),
        (png(3, 1, 1, 0, b"\0\x40", (b"tRNS", b"\0\0")), [255, 255, 255]),
        (png(2, 1, 16, 0, b"\0\x01\x01\x80\x00", (b"tRNS", b"\x01\x01")), [255, 128]),
        (png(2, 1, 8, 2, b"\0\1\2\3\1\2\4", (b"tRNS", b"\0\1\0\2\0\3")), [[255, 255, 255], [1, 2, 4]]),
        (png(2, 1, 16, 2, b"\0\1\0\2\0\3\0\1\0\2\0\4\0", (b"tRNS", b"\1\0\2\0\3\0")), [[255, 255, 255], [1, 2, 4]]),
    ],
    ids=["P", "P by degrees", "L", "L of 2 bits", "L of 4 bits", "1", "I;16", "RGB", "RGB of 16 bits"],
)
def test_transparent_colours_of_a_png_are_laid_on_white(content: bytes, expected: list[Any]) -> None:
    assert read(content).had_alpha
    assert pixels(content) == expected


def test_associated_alpha_of_a_tiff_is_divided_out_first() -> None:
    # 100 of 128 is a colour of 199: Pillow gives 255 * 100 // 128 = 199; (128 * 199 + 127 * 255) / 255 = 226.9.
    content = bytearray(encoded(Image.new("RGBA", (1, 1), (100, 100, 100, 128)), "TIFF"))
    at = content.index(struct.pack("<HHI", 338, 3, 1))  # ExtraSamples: 2 is alpha, 1 is alpha that is multiplied in
    content[at + 8] = 1
    assert pixels(bytes(content)) == [[227, 227, 227]]


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (1, 1), colour) for colour in ("red", "blue")]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {}), ("MPO", {})):
        red = pixels(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))[0]
        assert np.abs(np.subtract(red, [255, 0, 0])).max() <= 2, kind  # MPO is JPEG


def test_a_gif_is_transparent_where_it_says_and_where_its_frame_does_not_reach() -> None:
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([255, 0, 0, 0, 255, 0])
    indexed.putdata([0, 1])
    assert pixels(encoded(indexed, "GIF", transparency=1)) == [[255, 0, 0], [255, 255, 255]]
    assert pixels(encoded(indexed, "GIF")) == [[255, 0, 0], [0, 255, 0]]


def test_palettes_give_colours_and_one_bit_gives_grey() -> None:
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([1, 2, 3, 250, 251, 252])
    indexed.putdata([1, 0])
    for kind in ("PNG", "BMP", "TIFF", "GIF"):
        assert pixels(encoded(indexed, kind)) == [[250, 251, 252], [1, 2, 3]], kind
    bits = Image.new("1", (3, 1))
    bits.putdata([0, 255, 0])
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        assert read(encoded(bits, kind)).image.mode in ("L", "RGB")
        assert np.asarray(read(encoded(bits, kind)).image.convert("L")).tolist() == [[0, 255, 0]], kind
    assert read(encoded(bits)).image.mode == "L"


def test_inks_are_converted_whether_inverted_or_not() -> None:
    # C 0.2, M 0.6, Y 0, K 0.4 of 255: r = (255 - 51)(255 - 102) / 255 = 122.4, g = 102 * 153 / 255 = 61.2, b = 153.
    inks, expected = (51, 153, 0, 102), [122, 61, 153]
    flat = Image.new("CMYK", (16, 16), inks)
    assert pixels(encoded(flat, "TIFF"))[0][0] == expected
    adobe = encoded(flat, "JPEG", quality=100)  # which Pillow writes as Adobe does: inverted, with a marker
    assert b"Adobe" in adobe
    assert np.abs(np.subtract(pixels(adobe)[0][0], expected)).max() <= 1
    # The same bytes without the marker mean what they say: 255 - ink. r = 51 * 102 / 255 = 20.4, g = 153 * 102 / 255.
    at = adobe.index(b"\xff\xee")
    plain = adobe[:at] + adobe[at + 2 + int.from_bytes(adobe[at + 2 : at + 4], "big") :]
    assert np.abs(np.subtract(pixels(plain)[0][0], [20, 61, 0])).max() <= 1


def test_inks_as_luminance_and_chroma_are_converted() -> None:
    # Adobe's transform 2, YCCK: the file has Y, Cb, Cr, K. Y 204, no chroma, K 153: libjpeg makes all three inks
    # 255 - 204, inverted 204, and k = 255 - 153 = 102: (255 - 204) * (255 - 102) / 255 = 30.6.
    content = bytearray(encoded(Image.new("CMYK", (16, 16), (51, 127, 127, 102)), "JPEG", quality=100))
    at = content.index(b"Adobe")
    content[at + 11] = 2
    assert np.abs(np.subtract(pixels(bytes(content))[0][0], [31, 31, 31])).max() <= 2


#: The top row red, the rest blue; how the corner pixels lie after each of EXIF's orientations is their definition.
MARKED = Image.new("RGB", (2, 3), "blue")
MARKED.putpixel((0, 0), (255, 0, 0))
#: Orientation -> where the file's first pixel belongs (x, y) and the size of the upright image (width, height).
UPRIGHT = {
    1: ((0, 0), (2, 3)), 2: ((1, 0), (2, 3)), 3: ((1, 2), (2, 3)), 4: ((0, 2), (2, 3)),
    5: ((0, 0), (3, 2)), 6: ((2, 0), (3, 2)), 7: ((2, 1), (3, 2)), 8: ((0, 1), (3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photographs_are_turned_as_exif_says(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    image = read(encoded(MARKED, kind, exif=exif, **options)).image
    place, size = UPRIGHT[orientation]
    assert image.size == size
    reddest = max(((x, y) for x in range(size[0]) for y in range(size[1])), key=lambda at: image.getpixel(at)[0])  # type: ignore[index]
    assert reddest == place


def test_an_upright_image_keeps_its_transparent_colour_when_it_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = png(1, 2, 8, 0, b"\0\7\0\xc8", (b"tRNS", b"\0\7"), (b"eXIf", exif.tobytes()[6:]))
    assert pixels(content) == [200, 255]


@pytest.mark.parametrize(
    "content",
    [
        png(30_000, 30_000, 8, 2, b""),
        b"P6 13300 13300 255\n",
        b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + encoded(Image.new("L", (1, 1)), "GIF")[10:],
        b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
    ids=["PNG of 900 MP", "PPM of 177 MP", "GIF", "BMP"],
)
def test_too_many_pixels_are_refused_by_the_header(content: bytes) -> None:
    with pytest.raises(UndecodableError, match=r"(raise data\.max_pixels|more pixels than the 64000000)"):
        read(content)


def test_the_limit_of_pixels_is_the_recipes() -> None:
    small = encoded(Image.new("L", (10, 10)))
    assert decode(small, ImageRules(100, "white"), "x").image.size == (10, 10)
    with pytest.raises(UndecodableError, match="10 x 10 are 100 pixels, but at most 99 are read; make it smaller"):
        decode(small, ImageRules(99, "white"), "x")


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        encoded(Image.new("RGB", (8, 8)), "EPS"),
        encoded(Image.new("RGB", (8, 8)), "ICO"),
        encoded(Image.new("RGB", (8, 8)), "PCX"),
        encoded(Image.new("RGB", (8, 8)), "PDF"),
        b"",
        b"no image",
    ],
    ids=["PostScript", "EPS", "ICO", "PCX", "PDF", "empty", "text"],
)
def test_other_formats_are_refused_and_no_program_is_called(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was called"))
    with pytest.raises(UndecodableError, match="it is empty or no image"):
        read(content)


def test_a_lack_of_memory_is_not_called_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise MemoryError

    content = encoded(Image.new("RGB", (4, 4)))
    monkeypatch.setattr(Image.core, "new", refuse)
    monkeypatch.setattr(Image.core, "fill", refuse)
    with pytest.raises(BackendError, match=r"out of memory while reading x; lower models\.decode_threads"):
        decode(content, WHITE, "x")


def test_a_jpeg_of_endless_passes_is_refused_before_they_are_decoded() -> None:
    """A file of a megabyte may have thousands of passes over 64 million pixels: hours of work."""
    whole = encoded(Image.effect_noise((32, 32), 40).convert("RGB"), "JPEG", progressive=True)
    assert 2 < whole.count(b"\xff\xda") < 20 and read(whole).image.size == (32, 32)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    with pytest.raises(UndecodableError, match="a JPEG with 1010 passes, but at most 100 are read; save it again"):
        read(whole[:-2] + (1010 - whole.count(b"\xff\xda")) * last + whole[-2:])
