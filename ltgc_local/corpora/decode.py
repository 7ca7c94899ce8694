"""Encoded bytes -> an upright image in mode L or RGB."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

from PIL import Image, ImageOps, UnidentifiedImageError

from ltgc_local.corpora.base import first_few
from ltgc_local.errors import DataError


def decode_image(content: bytes, where: str) -> Image.Image:
    """Decode one image, turned as its EXIF says.

    Raises:
        DataError: it does not decode; ``where`` names it.
    """
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        picture.load()
        return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, zlib.error and others
        raise DataError(f"{where} does not decode: {_words(error)}") from error


def _words(error: Exception) -> str:
    return "it is empty or no image" if isinstance(error, UnidentifiedImageError) else str(error)


def decode_several(rows: Iterable[int], decode: Callable[[int], Image.Image]) -> list[Image.Image]:
    """Decode images by row, and go on past those that fail, so that one message names them.

    Raises:
        DataError: the first few problems, and how many there are.
    """
    images, problems = [], []
    for row in rows:
        try:
            images.append(decode(int(row)))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(problems[0] if len(problems) == 1 else f"{len(problems)} images: {first_few(problems)}")
    return images
