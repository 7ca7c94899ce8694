"""Digests of model folders."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ltgc_local.errors import ModelError
from ltgc_local.model_store.files import check_kind, model_files
from ltgc_local.regular_files import digest_file


def digest_folder(folder: Path) -> str:
    """Return one sha256 over the sorted relative names and the contents of a folder's files.

    Raises:
        ModelError: the folder is not there, or a file in it cannot be read.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    digest = hashlib.sha256()
    for file in model_files(folder):
        check_kind(file)
        try:
            content = digest_file(file)
        except OSError as error:
            raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
        digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
