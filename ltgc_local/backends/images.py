"""Images before and after a model: bounded in pixels, checked for content, brought to the stored size and mode."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

FLAT_RANGE = 2  # grey levels: an image whose lightest and darkest pixel differ by less is empty


def shrink(image: Image.Image, max_pixels: int) -> Image.Image:
    """Return the image, shrunk to at most ``max_pixels`` with its proportions kept; a smaller one as it is.

    A vision-language model turns pixels into tokens, so this bounds time and memory for images of any size.
    """
    width, height = image.size
    if width * height <= max_pixels:
        return image
    factor = math.sqrt(max_pixels / (width * height))
    size = (max(1, int(width * factor)), max(1, int(height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def is_flat(image: Image.Image) -> bool:
    """Return whether an image has no content: black, or made from NaN pixels."""
    levels = np.asarray(image.convert("L"), dtype=np.int16)
    return int(levels.max() - levels.min()) < FLAT_RANGE


def to_stored(image: Image.Image, size_px: int | None, mode: str) -> Image.Image:
    """Bring a generated image to the real images' size (None: as drawn) and mode, so that neither gives it away."""
    if size_px is not None and image.size != (size_px, size_px):
        image = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return image.convert(mode)
