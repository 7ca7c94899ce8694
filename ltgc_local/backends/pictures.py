"""Pictures on their way to a model and from one: bounded pixels, no content, the stored size and mode."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

FLAT_RANGE = 2  # grey levels: an image whose lightest and darkest pixel differ by less is no picture


def shrink(image: Image.Image, max_pixels: int) -> Image.Image:
    """Return the picture, shrunk to at most ``max_pixels`` in its own shape; a smaller one is returned as it is.

    A vision-language model turns pixels into tokens, so this bounds time and memory whatever photographs come.
    """
    width, height = image.size
    if width * height <= max_pixels:
        return image
    factor = math.sqrt(max_pixels / (width * height))
    size = (max(1, int(width * factor)), max(1, int(height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def is_flat(image: Image.Image) -> bool:
    """Return whether an image has no content: black, or what NaN pixels are turned into."""
    levels = np.asarray(image.convert("L"), dtype=np.int16)
    return int(levels.max() - levels.min()) < FLAT_RANGE


def to_stored(image: Image.Image, size_px: int | None, mode: str) -> Image.Image:
    """Bring a drawn image to the originals' size (None: as drawn) and mode, so that neither tells it from them."""
    if size_px is not None and image.size != (size_px, size_px):
        image = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return image.convert(mode)
