"""The batch size that fits into memory: halved when it does not, and remembered by model, image size and device."""

from __future__ import annotations

import logging
from pathlib import Path

from ltgc_local.errors import BackendError
from ltgc_local.regular_files import MIB, read_json
from ltgc_local.runs.files import Json, write_atomically

log = logging.getLogger(__name__)


class BatchSizeCache:
    """Batch sizes that fit, in a JSON file ``{"sdxl, 1024 px, NVIDIA H100": 4}``, or in this process alone.

    It holds only sizes that followed a lack of memory; delete the file to start from the recipe's batch size again.
    Several workers may write: the file is replaced whole, and what one of them overwrites is found out again.
    """

    def __init__(self, file: Path | None, model: str, device: str) -> None:
        self._file, self._model, self._device = file, model, device
        self._known: dict[str, int] = {}

    def largest(self, size_px: int, asked: int) -> int:
        """Return the batch size to try: ``asked``, or less if that is known not to fit."""
        self._known = self._read() | self._known
        return min(asked, self._known.get(self._key(size_px), asked))

    def halve(self, size_px: int, tried: int) -> int:
        """Remember that a batch of ``tried`` did not fit; return half of it.

        Raises:
            BackendError: it was one image.
        """
        if tried == 1:
            smaller = max(8, size_px // 2 // 8 * 8)
            raise BackendError(
                f"draw: out of memory ({self._device}) with a single image of {size_px} px; end what else uses the "
                f"memory, or type --set models.dtype=bfloat16, or --set draw.size_px={smaller}"
            )
        where = self._file or "this process"
        message = "draw: out of memory with %d images of %d px at once; continuing with %d, remembered in %s"
        log.warning(message, tried, size_px, tried // 2, where)
        self._known = self._read() | self._known | {self._key(size_px): tried // 2}
        if self._file is not None:
            write_atomically(Json("batch_sizes", self._known), self._file)
        return tried // 2

    def _key(self, size_px: int) -> str:
        return f"{self._model}, {size_px} px, {self._device}"

    def _read(self) -> dict[str, int]:
        try:
            found = read_json(self._file, MIB) if self._file is not None else {}
        except (OSError, ValueError):  # not there or damaged: it is found out again
            return {}
        is_whole = isinstance(found, dict) and all(type(size) is int and size > 0 for size in found.values())
        return found if is_whole else {}
