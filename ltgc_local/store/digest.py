"""Digests of model folders, and safetensors checked for wholeness without loading them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ltgc_local.errors import ModelError

_LFS_POINTER = b"version https://git-lfs"
_LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


def digest_file(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_files(folder: Path) -> list[Path]:
    """Return the folder's files, sorted by relative name; hidden files and folders are skipped."""
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if len(Path(parent).relative_to(folder).parts) > 8:
            raise ModelError(f"{folder}: nested too deeply at {parent}; a link there may lead back to itself")
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def digest_folder(folder: Path) -> str:
    """Return one sha256 over the sorted relative names and the contents of a folder's files.

    Raises:
        ModelError: the folder is not there, or a file in it cannot be read.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    digest = hashlib.sha256()
    for file in model_files(folder):
        try:
            content = digest_file(file)
        except OSError as error:
            raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
        digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def check_safetensors(path: Path) -> None:
    """Check that a safetensors file is whole, by its header and its size.

    The format: 8 bytes with the header's length, the header (JSON: name -> dtype, shape, data_offsets), the tensors.

    Raises:
        ModelError: the file is truncated, has something after its end, or is not safetensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if start and _LFS_POINTER.startswith(start):
                raise ModelError(f"{path}: a git-lfs pointer, not the weights; type: git lfs pull")
            header_size = int.from_bytes(start, "little")
            if header_size > _LONGEST_HEADER:
                raise ModelError(f"{path}: not a safetensors file (its header is not what the format says)")
            if len(start) < 8 or 8 + header_size > size:
                raise ModelError(f"{path}: truncated: {size} bytes do not hold its header; copy it again")
            header = json.loads(file.read(header_size))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        expected = 8 + header_size + max(ends, default=0)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path}: not a safetensors file (its header is not what the format says)") from error
    if size < expected:
        raise ModelError(f"{path}: truncated: {size} bytes of {expected}; copy it again")
    if size > expected:
        raise ModelError(f"{path}: {size - expected} bytes too long: damaged; copy it again")
