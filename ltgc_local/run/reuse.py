"""Take a finished step from another run instead of doing it again.

A step's fingerprint holds all that shapes it (settings, seed, data, model, what it read), so one that is equal names
the same files. They are hard-linked where the file system can and copied where not; a step's files are written once
and replaced by renaming, never changed in place, so a link is as good as a copy. The manifest is written last and says
where the files come from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ltgc_local.artefacts.directory import RunDirectory
from ltgc_local.artefacts.files import Json, write_atomically
from ltgc_local.errors import ArtefactError
from ltgc_local.steps import Step

#: The report prints its own run's recipe and provenance, which no fingerprint holds.
NEVER_TAKEN = {"report"}


def find_finished(step: Step, wanted: dict[str, Any], places: Iterable[Path]) -> RunDirectory | None:
    """Return the first run that has the step complete and whole with this fingerprint, or None."""
    if step.stage in NEVER_TAKEN:
        return None
    for place in places:
        run = RunDirectory(place)
        try:
            manifest = run.manifest(step.name)
        except ArtefactError:  # damaged there: it is done here, and whoever runs there is told
            continue
        if manifest is not None and manifest["fingerprint"] == wanted and _is_whole(run.folder(step.name), manifest):
            return run
    return None


def take_step(step: str, source: RunDirectory, run: RunDirectory) -> None:
    """Put a step's files from ``source`` into ``run``, the manifest last."""
    manifest = source.manifest(step)
    assert manifest is not None, f"{source.root}: {step} is not complete"
    origin, target = source.folder(step), run.folder(step)
    (target / "chunks").mkdir(parents=True, exist_ok=True)
    chunks = [f"chunks/{path.name}" for path in sorted((origin / "chunks").glob("?????.json"))]
    for name in (*manifest["files"], *chunks):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtefactError(f"{origin / 'manifest.json'}: names a file outside its step, {name!r}")
        _link(origin / name, target / name)
    first = manifest.get("taken_from", str(source.root.resolve()))
    write_atomically(Json("manifest", manifest | {"taken_from": first}), target / "manifest.json")


def _is_whole(folder: Path, manifest: dict[str, Any]) -> bool:
    files = ((folder / name, facts["bytes"]) for name, facts in manifest["files"].items())
    return all(path.is_file() and path.stat().st_size == size for path, size in files)


def _link(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # rename does nothing where both are links to one file
