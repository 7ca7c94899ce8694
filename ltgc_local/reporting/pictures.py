"""Images embedded in the page as data: addresses: small ones unchanged, large ones as thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from ltgc_local.runs.files import encode_png

T = TypeVar("T")

LOSSLESS_PX = 64  # up to this size an image is stored losslessly and enlarged by a whole number
THUMBNAIL_PX = 144
SHOWN_PX = 96  # approximate size on the page
JPEG_QUALITY = 78


@dataclass(frozen=True)
class Picture:
    """One image on the page, with its texts."""

    address: str
    is_small: bool
    width_px: int  # as shown
    alt: str
    caption: str
    fact: str = ""
    state: str = ""  # "accepted", "missed", or "" if it was not assessed


def data_address(image: Image.Image) -> tuple[str, bool, int]:
    """Return an image's data: address (PNG if it is small, else a JPEG thumbnail), whether it is small, its width."""
    is_small = max(image.size) <= LOSSLESS_PX
    if is_small:
        kind, content, width = "png", encode_png(image), image.width * max(1, round(SHOWN_PX / max(image.size)))
    else:
        thumbnail = image.convert("RGB")
        thumbnail.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        thumbnail.save(buffer, format="JPEG", quality=JPEG_QUALITY)
        kind, content, width = "jpeg", buffer.getvalue(), round(SHOWN_PX * thumbnail.width / max(thumbnail.size))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", is_small, width


def spread(items: Sequence[T], number: int) -> list[T]:
    """Return ``number`` items, evenly spaced from first to last rather than hand-picked."""
    if len(items) <= number or number <= 1:
        return list(items[:number])
    return [items[round(i * (len(items) - 1) / (number - 1))] for i in range(number)]


def without_opening(description: str, class_name: str) -> str:
    """Remove Template 1's opening, which every description of a class shares."""
    return description.removeprefix(f"A photo of the class {class_name}").strip() or description
