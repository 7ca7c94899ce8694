"""The JSON files that steer a run, each with a sha256 of itself as its last key, read through a schema.

The digest covers the file's bytes except the digest itself, so one flipped bit is noticed wherever it is. It is not a
signature: whoever can write the file can seal it, so its content is checked against the schema all the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ltgc_local.regular_files import MAX_JSON_BYTES, parse_json, read_bytes
from ltgc_local.runs.disk import NO_FILE, Damaged, cannot_read
from ltgc_local.runs.files import Text, write_atomically

SEAL = "sha256"
_END = re.compile(rb'"sha256": "([0-9a-f]{64})"\n}\n\Z')
Schema = TypeVar("Schema", bound=BaseModel)


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object, indented for people, with its seal; the whole file or nothing."""
    blank = json.dumps({**value, SEAL: ""}, indent=1, ensure_ascii=False) + "\n"
    digest = hashlib.sha256(blank.encode()).hexdigest()
    write_atomically(Text(path.stem, blank.removesuffix('""\n}\n') + f'"{digest}"\n}}\n', "json"), path)


def read_object(path: Path, mend: str) -> dict[str, Any] | None:
    """Read a sealed file without its seal; None if it is missing.

    Args:
        mend: what to type if it is damaged or cannot be read, for the error, ``Damaged`` or another ArtefactError.
    """
    try:
        content = read_bytes(path, MAX_JSON_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        if problem.errno in NO_FILE:
            raise Damaged(path, str(problem.strerror), mend) from None
        raise cannot_read(path, problem, mend) from None
    try:
        return unseal(content)
    except ValueError as problem:
        raise Damaged(path, str(problem), mend) from None


def unseal(content: bytes) -> dict[str, Any]:
    """Return the object in a sealed file's bytes, without the seal; a ValueError says that they were changed."""
    end = _END.search(content)
    if end is None:
        raise ValueError("it does not end with its sha256: cut short, or not written by this version of ltgc-local")
    blank = content[: end.start(1)] + content[end.end(1) :]
    if hashlib.sha256(blank).hexdigest().encode() != end[1]:
        raise ValueError("its sha256 is not the one that it was written with")
    value = parse_json(blank.decode())
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    del value[SEAL]
    return value


def read_sealed(path: Path, schema: type[Schema], mend: str) -> Schema | None:
    """Read a sealed file that must fit the schema; as ``read_object``."""
    value = read_object(path, mend)
    if value is None:
        return None
    try:
        return schema.model_validate(value)
    except ValidationError as problem:
        raise Damaged(path, first_problem(problem), mend) from None


def first_problem(problem: ValidationError) -> str:
    """Write the first of a schema's complaints: ``files.x: Input should be a valid dictionary``."""
    first = problem.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
