"""Take a finished step from another run instead of doing it again.

A step's fingerprint includes everything that shapes it (settings, seed, data, model, what it read), so equal
fingerprints mean equal files. Each file is compared with the sha256 that it was written with, then hard-linked, or
copied where the file system has no links. A link is as good as a copy, because a step's files are written once and
replaced by renaming, never changed in place. The manifest is written last and says where the files come from.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.disk import writing
from ltgc_local.runs.sealed import write_sealed
from ltgc_local.runs.verify import remember

log = logging.getLogger(__name__)


def find_finished(step: str, wanted: dict[str, Any], places: Iterable[Path]) -> RunDirectory | None:
    """Return the first run where the step is complete and undamaged with this fingerprint, or None."""
    for place in places:
        run = RunDirectory(place)
        try:
            manifest = run.manifest(step)
        except ArtefactError as problem:  # it is done here, and whoever runs there is told
            log.warning("%s: not taken from there: %s", step, problem)
            continue
        if manifest is None or manifest.fingerprint != wanted:
            continue
        damaged = run.find_damage(step)
        if not damaged:
            return run
        log.warning("%s: not taken from %s: %s: %s", step, place, *damaged[0])
    return None


def take_step(step: str, source: RunDirectory, run: RunDirectory) -> None:
    """Put a step's files from ``source`` into ``run``, the manifest last."""
    manifest = source.manifest(step)
    assert manifest is not None, f"{source.root}: {step} is not complete"
    origin, target = source.folder(step), run.folder(step)
    chunks = [f"chunks/{number:05d}.json" for number in source.complete_chunks(step)]
    plan = [name for name in ("chunks/plan.jsonl", "chunks/plan.json") if _is_plain(origin / name)]
    for name in (*manifest.files, *chunks, *plan):
        with writing(target / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            _link(origin / name, target / name)
    remember(target, manifest.files)
    first = manifest.taken_from or str(source.root.resolve())
    write_sealed(target / "manifest.json", manifest.model_dump() | {"taken_from": first})


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _link(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary, follow_symlinks=False)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        with suppress(OSError):  # rename does nothing where both are links to one file
            temporary.unlink(missing_ok=True)
