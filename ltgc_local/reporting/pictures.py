"""Images inside the page: small ones as they are, large ones as thumbnails, all as data: addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from ltgc_local.runs.files import encode_png

T = TypeVar("T")

AS_IT_IS_PX = 64  # up to this size an image is shown losslessly, enlarged in whole pixels
THUMBNAIL_PX = 144
SHOWN_PX = 96  # about; small images are enlarged by a whole number
JPEG_QUALITY = 78


@dataclass(frozen=True)
class Picture:
    """One image of a gallery with its texts; ``state`` is empty where nothing was judged."""

    address: str
    is_small: bool
    width_px: int  # as shown
    alt: str
    caption: str
    fact: str = ""
    state: str = ""  # "", "accepted" or "missed"


def data_address(image: Image.Image) -> tuple[str, bool, int]:
    """Return an image as a data: address (PNG if it is small, else a JPEG thumbnail), whether it is, and its width."""
    if max(image.size) <= AS_IT_IS_PX:
        return _address("png", encode_png(image)), True, image.width * max(1, round(SHOWN_PX / max(image.size)))
    thumbnail = image.convert("RGB")
    thumbnail.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    thumbnail.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return _address("jpeg", buffer.getvalue()), False, round(SHOWN_PX * thumbnail.width / max(thumbnail.size))


def spread(items: Sequence[T], number: int) -> list[T]:
    """Take ``number`` items evenly from first to last: a choice that nobody made."""
    if len(items) <= number:
        return list(items)
    if number <= 1:
        return list(items[:number])
    return [items[round(i * (len(items) - 1) / (number - 1))] for i in range(number)]


def without_opening(description: str, class_name: str) -> str:
    """Leave out Template 1's opening, which every description of a class has."""
    rest = description.removeprefix(f"A photo of the class {class_name}").strip()
    return rest or description


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
