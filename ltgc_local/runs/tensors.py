"""The reading of every safetensors file of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltgc_local.errors import ArtefactError
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.regular_files import check_regular
from ltgc_local.runs.redo import redo_file

if TYPE_CHECKING:
    import numpy as np
    import torch


def read_tensors(path: Path, facts: str | None = None) -> tuple[dict[str, torch.Tensor], Any]:
    """Read a file's tensors, and of its metadata the JSON value ``facts``, if one is asked for.

    Raises:
        ArtefactError: it is damaged, or has no such facts.
    """
    return _read(path, "pt", facts)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a file's tensors as numpy arrays.

    Raises:
        ArtefactError: it is damaged.
    """
    found: dict[str, np.ndarray] = _read(path, "np", None)[0]
    return found


def _read(path: Path, framework: str, facts: str | None) -> tuple[dict[str, Any], Any]:
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(path, framework=framework) as file:
            found = None if facts is None else json.loads((file.metadata() or {}).get(facts, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as problem:
        if is_out_of_memory(problem):
            raise
        raise ArtefactError(f"{path}: damaged ({problem}); {redo_file(path)}") from problem
    if facts is not None and found is None:
        raise ArtefactError(f"{path}: of something else: it says nothing of '{facts}'; {redo_file(path)}")
    return tensors, found
