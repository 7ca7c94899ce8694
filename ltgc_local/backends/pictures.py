"""What a vision-language model is shown: pictures of at most so many pixels."""

from __future__ import annotations

import math

from PIL import Image


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
