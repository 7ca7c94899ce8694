"""safetensors checked for wholeness by their headers and sizes, without loading them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from ltgc_local.errors import ModelError
from ltgc_local.model_store.files import parse_limited
from ltgc_local.regular_files import open_regular

_LFS_POINTER = b"version https://git-lfs"
_LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
_LARGEST_SIDE, _MOST_SIDES = 2**48, 64
#: Bits of a number, of every format that safetensors knows; a newer one's size is not checked.
_BITS = {
    **dict.fromkeys(["F4"], 4),
    **dict.fromkeys(["F6_E2M3", "F6_E3M2"], 6),
    **dict.fromkeys(["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"], 8),
    **dict.fromkeys(["I16", "U16", "F16", "BF16"], 16),
    **dict.fromkeys(["I32", "U32", "F32"], 32),
    **dict.fromkeys(["I64", "U64", "F64", "C64"], 64),
}


def check_safetensors(path: Path) -> None:
    """Check that a safetensors file is whole.

    The format: 8 bytes with the header's length, the header (JSON: name -> dtype, shape, data_offsets), the tensors,
    one after the other without gaps.

    Raises:
        ModelError: the file is truncated, has something after its end, or is not safetensors.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            if start and _LFS_POINTER.startswith(start):
                raise ModelError(f"{path}: a git-lfs pointer, not the weights; type: git lfs pull")
            header_size = int.from_bytes(start, "little")
            if header_size > _LONGEST_HEADER:
                raise ModelError(f"{path}: not a safetensors file (its header is not what the format says)")
            if len(start) < 8 or 8 + header_size > size:
                raise ModelError(f"{path}: truncated: {size} bytes do not hold its header; copy it again")
            header = file.read(header_size)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        expected = 8 + header_size + _end_of(parse_limited(header.decode()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not a safetensors file (its header is not what the format says)") from error
    if size < expected:
        raise ModelError(f"{path}: truncated: {size} bytes of {expected}; copy it again")
    if size > expected:
        raise ModelError(f"{path}: {size - expected} bytes too long: damaged; copy it again")


def _end_of(header: dict[str, Any]) -> int:
    """Return where the last tensor ends.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not what the format says.
    """
    end = 0
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    for tensor in sorted(tensors, key=_offsets):
        first, last = _offsets(tensor)
        if first != end or last < first:
            raise ValueError("the tensors overlap, or there is a gap between them")
        sides, end = tensor["shape"], last
        if len(sides) > _MOST_SIDES or not all(type(side) is int and 0 <= side < _LARGEST_SIDE for side in sides):
            raise ValueError("a shape is not a list of sides")
        bits = _BITS.get(str(tensor["dtype"]))
        if bits is not None and math.prod(sides) * bits != (last - first) * 8:
            raise ValueError("a tensor's bytes are not those of its shape")
    return end


def _offsets(tensor: dict[str, Any]) -> tuple[int, int]:
    first, last = tensor["data_offsets"]
    if type(first) is not int or type(last) is not int:
        raise ValueError("an offset is no whole number")
    return first, last
