"""safetensors checked for completeness by their headers and sizes, without loading them."""

from __future__ import annotations

import os
from pathlib import Path

from ltgc_local.errors import ModelError
from ltgc_local.model_store.files import parse_limited
from ltgc_local.regular_files import open_regular

_LFS_POINTER = b"version https://git-lfs"
_LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


def check_safetensors(path: Path) -> None:
    """Refuse a safetensors file that is truncated, too long, or not what the format says.

    The format: 8 bytes with the header's length, the header (JSON: name -> dtype, shape, data_offsets), then the
    tensors, without gaps.
    """
    from safetensors import SafetensorError, safe_open

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
        tensors = parse_limited(header.decode())
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        expected = 8 + header_size + max(ends, default=0)
        if size < expected:
            raise ModelError(f"{path}: truncated: {size} bytes of {expected}; copy it again")
        if size > expected:
            raise ModelError(f"{path}: {size - expected} bytes too long: damaged; copy it again")
        with safe_open(path, framework="numpy"):  # it compares dtypes, shapes and offsets
            pass
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path}: not a safetensors file (its header is not what the format says)") from error
