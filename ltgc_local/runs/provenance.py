"""A run's ``recipe.json``, and its ``provenance.json``, which includes the command that made it."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltgc_local.errors import ArtefactError
from ltgc_local.recipe import Recipe, class_of
from ltgc_local.runs.disk import RECIPE, repair
from ltgc_local.runs.schemas import ProvenanceFile
from ltgc_local.runs.sealed import first_problem, read_object, read_sealed, write_sealed

PROVENANCE = "provenance.json"


def read_run_recipe(root: Path) -> Recipe:
    """Return the recipe that a run directory was made from; an ArtefactError says if it is missing or damaged."""
    value = read_settings(root)
    try:
        return class_of(value).model_validate_json(json.dumps(value))
    except ValidationError as problem:
        words = f"written by another version of ltgc-local ({first_problem(problem)})"
        raise ArtefactError(f"{root / RECIPE}: {words}; {_mend(root)}") from None


def read_settings(root: Path) -> dict[str, Any]:
    """Return a run's recipe as plain values, whatever version of ltgc-local wrote it."""
    mend = _mend(root)
    value = read_object(root / RECIPE, mend)
    if value is None:
        raise ArtefactError(f"{root / RECIPE}: not there, so {root} is not a run directory; {mend}")
    if not isinstance(value.get("name"), str):
        raise ArtefactError(f"{root / RECIPE}: not a recipe; {mend}")
    return value


def write_run_recipe(root: Path, recipe: Recipe) -> None:
    """Write the recipe, if the file is missing, different or damaged."""
    _write_changed(root / RECIPE, recipe.dump())


def read_provenance_file(root: Path) -> ProvenanceFile | None:
    """Return the run's provenance; None if it was not written."""
    return read_sealed(root / PROVENANCE, ProvenanceFile, repair(root))


def write_provenance_file(root: Path, provenance: ProvenanceFile) -> None:
    """Write the run's provenance, if the file is missing, different or damaged."""
    _write_changed(root / PROVENANCE, provenance.model_dump())


def _mend(root: Path) -> str:
    """Return what to type so that a run's recipe is written again: the command that made it, if it is known.

    Anybody may have written the run's files, so only an ``ltgc-local run`` command is repeated, and it is quoted.
    """
    words: list[str] = []
    with suppress(ArtefactError, ValueError):
        provenance = read_provenance_file(root)
        words = shlex.split(provenance.command) if provenance is not None else []
    is_run = words[:2] == ["ltgc-local", "run"] and len(words) > 2
    # A run whose provenance was written again says that it was made from itself, which is no help.
    if not is_run or Path(words[2]) == root or any(word in ("--out", "--from") for word in words):
        return f"type: ltgc-local run RECIPE --out {shlex.quote(str(root))}, with its recipe for RECIPE"
    table = next((parent for parent in root.parents if (parent / "table.json").is_file()), None)
    named = table or (root.parent if "--seeds" in words else root)  # what ``--out`` meant
    return "type: " + shlex.join([*words, "--out", str(named)])


def _write_changed(path: Path, value: dict[str, Any]) -> None:
    found = None
    with suppress(ArtefactError):  # damaged: written again
        found = read_object(path, "")
    if found != value:
        write_sealed(path, value)
