"""Encoded bytes -> an upright 8-bit image in mode L or RGB, or a reason why not: the one place that decodes images.

Pillow is restricted to a list of formats, because one of the others starts an external program (PostScript). The number
of pixels is read from the header and limited before any pixel is decoded. Two conversions that Pillow gets wrong are
done here: 16 bits are scaled, not clipped, and alpha is composited on a background, not dropped.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from ltgc_local.errors import BackendError
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.regular_files import MIB

#: JPEG includes MPO, which many phones and cameras write as .jpg.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
for _name in ("Jpeg", "Png", "WebP", "Bmp", "Gif", "Tiff", "Ppm"):  # so that Pillow loads no others, also in threads
    import_module(f"PIL.{_name}ImagePlugin")
MAX_ENCODED_BYTES = 512 * MIB
#: Passes over a JPEG's pixels: a progressive JPEG has about ten, and one with thousands takes hours. The marker of a
#: pass does not occur within one; previews and a phone's second picture have their own passes.
MAX_SCANS, SCAN = 100, b"\xff\xda"
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_WIDE = ("I;16", "I;16L", "I;16B", "I;16N")
#: Raw mode of a grey image with few bits -> Pillow's factor for its values, but not for the transparent value.
_FACTORS = {"1": 255, "L;2": 85, "L;4": 17}
_STRIP = 256  # rows
_WHITE_IS_ZERO, _PHOTOMETRIC = 0, 262  # of TIFF


class UndecodableError(ValueError):
    """The bytes are not an image that is read here; the message says why, and what to do if anything can be done."""


@dataclass(frozen=True)
class ImageRules:
    """The largest number of pixels, and the colour behind alpha: white, black, grey or #rrggbb."""

    max_pixels: int
    background: str


@dataclass(frozen=True)
class Decoded:
    """An image in mode L or RGB, and what its file had that the image lacks."""

    image: Image.Image
    had_alpha: bool = False
    had_16_bits: bool = False


def decode(content: bytes, rules: ImageRules, where: str, formats: Sequence[str] = FORMATS) -> Decoded:
    """Decode one image, or the first frame of several, rotated as its EXIF says.

    Raises:
        UndecodableError: it is damaged, too large, or of a kind that is not read.
        BackendError: there is not enough memory; ``where`` names the image.
    """
    try:
        picture = Image.open(io.BytesIO(content), formats=tuple(formats))
        _check_header(picture, rules)
        if picture.format in ("JPEG", "MPO") and (scans := content.count(SCAN)) > MAX_SCANS:
            raise UndecodableError(f"a JPEG with {scans} passes, but at most {MAX_SCANS} are read; save it again")
        raw = _raw_mode(picture)
        picture.load()
        has_16_bits = ";16" in raw or picture.mode in (*_WIDE, "I")
        ImageOps.exif_transpose(picture, in_place=True)  # without the copy that it otherwise makes of upright images
        image, had_alpha = _without_alpha(_to_8_bits(picture, raw), rules, raw)
        return Decoded(image, had_alpha, has_16_bits)
    except UndecodableError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, zlib.error and others
        if is_out_of_memory(error):
            remedy = "lower models.decode_threads or data.max_pixels"
            raise BackendError(f"out of memory while reading {where}; {remedy}") from error
        raise UndecodableError(_words(error, rules)) from error


def _words(error: Exception, rules: ImageRules) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is empty or no image (JPEG, PNG, WebP, BMP, GIF, TIFF and PPM are read)"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more pixels than the {rules.max_pixels} that are read (data.max_pixels)"
    return str(error) or type(error).__name__


def _check_header(picture: Image.Image, rules: ImageRules) -> None:
    """Refuse images that are too large, or whose pixels have an unknown range, by their header."""
    pixels = picture.width * picture.height
    if pixels > rules.max_pixels:
        raise UndecodableError(
            f"{picture.width} x {picture.height} are {pixels} pixels, but at most {rules.max_pixels} are read; make it "
            "smaller, or raise data.max_pixels"
        )
    is_16_bits = picture.mode == "I" and picture.format in ("PPM", "PNG")  # their integers have at most 16 bits
    if picture.mode in ("I", "F") and not is_16_bits:
        what = "fractions" if picture.mode == "F" else "signed or 32-bit numbers"
        raise UndecodableError(f"its pixels are {what}, and their range is not known; save it with 8 or 16 bits")


def _raw_mode(picture: Image.Image) -> str:
    """Return the file's pixel format in Pillow's words, such as "RGB;16B"; "" if Pillow does not say."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0].args if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _to_8_bits(picture: Image.Image, raw: str) -> Image.Image:
    """Scale 16 grey bits to 8: round(v / 257). For colours Pillow gives the high byte, which differs by at most 1."""
    if picture.mode == "CMYK" and picture.format in ("JPEG", "MPO") and "adobe" not in picture.info:
        return Image.eval(
            picture, lambda ink: 255 - ink
        )  # Pillow inverts every CMYK JPEG, but only Adobe's are inverted
    if picture.mode not in (*_WIDE, "I"):
        return picture
    values: NDArray[np.uint16] = np.asarray(picture).astype(np.uint16)  # (H, W)
    if raw == "I;12":
        values = values * np.uint16(16) + values // np.uint16(256)
    tags = getattr(picture, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = np.uint16(65535) - values
    whole, rest = np.divmod(values, np.uint16(257))
    grey = Image.fromarray((whole + (rest > 128)).astype(np.uint8))  # (v + 128) // 257
    key = picture.info.get("transparency")
    return grey if key is None else _with_alpha(grey, values == key)


def _without_alpha(picture: Image.Image, rules: ImageRules, raw: str) -> tuple[Image.Image, bool]:
    """Return the image in mode L or RGB, composited on the background if it has alpha, and whether it has."""
    key = picture.info.get("transparency")
    if key is not None and picture.mode in ("1", "L", "RGB"):
        values = np.asarray(picture.convert("L") if picture.mode == "1" else picture)  # (H, W) or (H, W, 3)
        if picture.mode == "RGB":
            colour = np.asarray(key) >> (8 if ";16" in raw else 0)
            hidden = (values == colour).all(axis=2)
        else:
            hidden = values == key * _FACTORS.get(raw, 1)
        picture = _with_alpha(picture, hidden)
    elif picture.mode in ("RGBa", "La"):
        picture = picture.convert(picture.mode.upper())
    elif picture.mode == "PA" or (picture.mode == "P" and picture.has_transparency_data):
        picture = picture.convert("RGBA")
    if picture.mode in _WITH_ALPHA:
        return _on_background(picture, rules.background, is_grey=raw.startswith("LA")), True
    if picture.mode == "1":
        return picture.convert("L"), False
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB"), False


def _with_alpha(picture: Image.Image, hidden: NDArray[np.bool_]) -> Image.Image:
    """Return the image with alpha 0 where ``hidden`` (H, W), otherwise 255."""
    opaque = picture.convert("RGB" if picture.mode == "RGB" else "L")
    opaque.info.pop("transparency", None)
    opaque.putalpha(Image.fromarray(np.where(hidden, np.uint8(0), np.uint8(255))))
    return opaque


def _on_background(picture: Image.Image, background: str, *, is_grey: bool) -> Image.Image:
    """Composite: round((a c + (255 - a) b) / 255) per channel. A grey image on a grey background stays grey."""
    red, green, blue = ImageColor.getrgb("#808080" if background == "grey" else background)[:3]
    stays_grey = (picture.mode == "LA" or is_grey) and red == green == blue
    canvas = Image.new("L", picture.size, red) if stays_grey else Image.new("RGB", picture.size, (red, green, blue))
    for top in range(0, picture.height, _STRIP):  # in strips: a large image is in memory twice, not four times
        strip = picture.crop((0, top, picture.width, min(top + _STRIP, picture.height)))
        front = strip.getchannel(0) if stays_grey else strip.convert("RGB")
        canvas.paste(front, (0, top), strip.getchannel("A"))
    return canvas
