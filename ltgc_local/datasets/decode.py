"""Images of a data set: decoded as its recipe says, and what does not decode as the error of its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from PIL import Image

from ltgc_local.datasets.base import first_few
from ltgc_local.errors import DataError
from ltgc_local.image_decoding import Decoded, ImageRules, UndecodableError, decode
from ltgc_local.recipe.schema import Data


def rules_of(data: Data) -> ImageRules:
    """Return how a recipe's images are decoded."""
    return ImageRules(data.max_pixels, data.alpha_background)


def decode_image(content: bytes, rules: ImageRules, where: str) -> Decoded:
    """Decode one image into mode L or RGB, turned as its EXIF says.

    Raises:
        DataError: it does not decode; ``where`` names it.
        BackendError: there is not enough memory.
    """
    try:
        return decode(content, rules, where)
    except UndecodableError as error:
        raise DataError(f"{where} does not decode: {error}") from error


def decode_several(rows: Iterable[int], decode_row: Callable[[int], Image.Image]) -> list[Image.Image]:
    """Decode images by row, and go on past those that fail, so that one message names them.

    Raises:
        DataError: the first few problems, and how many there are.
    """
    images, problems = [], []
    for row in rows:
        try:
            images.append(decode_row(int(row)))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(problems[0] if len(problems) == 1 else f"{len(problems)} images: {first_few(problems)}")
    return images
