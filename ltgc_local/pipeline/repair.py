"""Make again what is damaged in a run, and nothing else.

A damaged file is traced to the chunk that wrote it. That chunk is made again from the step's inputs, which are repaired
first. If its files come out with the digests that they had, all that was made from them stays valid. If they do not, as
with other hardware or other versions of the libraries, the steps that were made from them are named.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ltgc_local.methods.base import Step
from ltgc_local.pipeline.damage import StepDamage, look_at_provenance, look_at_step, steps_read
from ltgc_local.pipeline.plan import build_plan, with_dependents
from ltgc_local.pipeline.preparation import Request
from ltgc_local.pipeline.scheduler import run_pipeline
from ltgc_local.recipe import Recipe
from ltgc_local.runs.complete_steps import number_of
from ltgc_local.runs.directory import CHECKPOINT, RunDirectory
from ltgc_local.runs.disk import make_folder, writing
from ltgc_local.runs.logs import Level
from ltgc_local.runs.provenance import read_run_recipe
from ltgc_local.runs.sealed import write_sealed

#: Of a step that is not complete, what the run goes on by: without it, the chunk or the training begins anew.
PLAN = ("plan.json", "plan.jsonl")


@dataclass(frozen=True)
class Repaired:
    """What was done.

    Attributes:
        files: that were damaged.
        resuming: steps that were not complete. The run makes again what was damaged of them.
        outdated: step whose files came out different -> the steps that were made from the old ones.
    """

    files: tuple[Path, ...]
    resuming: tuple[str, ...]
    outdated: dict[str, tuple[str, ...]]


def repair_run(out: Path, log: Callable[[str], None], level: Level = "warning") -> Repaired:
    """Find what is damaged and make it again.

    Args:
        log: told of each damaged file, and of what is made.
        level: the lowest level that a step's workers print to standard error.

    Raises:
        StaleStep: what is damaged was made with other settings, data or models than there are now.
        LtgcError: something cannot be read, written or made. What was complete before is as it was.
    """
    recipe, run = read_run_recipe(out), RunDirectory(out)
    steps, request = build_plan(recipe), _request(recipe, out, level)
    files, resuming = _mend_provenance(request, run, log), []
    read = {name for step in steps for name in steps_read(step, run)}
    for step in steps:  # each is looked at when its inputs are whole
        with run.locked(log):
            found = look_at_step(step, run, step.name in read)
            for path, problem in found.problems:
                log(f"{path}: damaged: {problem}")
                files.append(path)
            is_to_make = bool(found.problems) and _make_room(found, run)
        if is_to_make:
            _make(found, run, request, log)
        elif found.problems and not found.was_complete:
            resuming.append(step.name)
    return Repaired(tuple(files), tuple(resuming), _outdated(recipe, run))


def redo_outdated(out: Path, outdated: Iterable[str], log: Callable[[str], None], level: Level = "warning") -> None:
    """Redo the steps that were made from files which came out different, and all that depends on them.

    Raises:
        LtgcError: of the kind that says what went wrong.
    """
    recipe, run = read_run_recipe(out), RunDirectory(out)
    with run.locked(log):
        run.supersede(with_dependents(build_plan(recipe), outdated))
    run_pipeline(_request(recipe, out, level), log)


def _mend_provenance(request: Request, run: RunDirectory, log: Callable[[str], None]) -> list[Path]:
    """Write the run's provenance again if it is damaged or gone."""
    damage = look_at_provenance(run.root)
    if damage is None:
        return []
    path, problem = damage
    log(f"{path}: damaged: {problem}")
    with run.locked(log):
        _put_away(path, run)
    run_pipeline(replace(request, only=()), log)
    return [path]


def _make_room(found: StepDamage, run: RunDirectory) -> bool:
    """Put away what is damaged of a step; return whether some of it has to be made before the step is complete again.

    Of a step that was not complete, the run makes again what is missing when it is resumed.
    """
    _put_away_all(found, run)
    if found.manifest is not None and found.folder / "begun.json" in found.paths:
        run.begin(found.step.name, found.manifest.fingerprint)
    if not found.was_complete:
        _remove(found.record_of(number) for number in found.lost)
        return False
    _write_records(found)
    has_plan = not found.paths & {found.folder / "chunks" / name for name in PLAN}
    return bool(found.lost) or found.manifest is None or not has_plan


def _write_records(found: StepDamage) -> None:
    """Write again the records of chunks whose files are whole; items and seconds are what the others leave."""
    manifest = found.manifest
    if manifest is None:
        return
    numbers = set(range(found.num_chunks or 0)) | set(map(number_of, manifest.files))
    gone = sorted(numbers - found.records.keys() - found.lost)
    if not gone:
        return
    known = found.records.values()
    seconds = round(max(0.0, manifest.seconds - sum(record.seconds for record in known)) / len(gone), 3)
    left = max(0, manifest.items - sum(record.items for record in known))
    for number in gone:
        files = {name: dict(facts) for name, facts in manifest.files.items() if number_of(name) == number}
        items = left // len(gone) if found.plan is None else found.plan.sizes[number]
        facts = {"items": items, "seconds": seconds, "peak_mib": manifest.peak_mib}
        make_folder(found.folder / "chunks")
        write_sealed(found.record_of(number), {"files": files, **facts})


def _make(found: StepDamage, run: RunDirectory, request: Request, log: Callable[[str], None]) -> None:
    """Make the lost chunks of a step that was complete, and declare it complete again."""
    name = found.step.name
    # A stage may use settings that are only in its inputs' fingerprints, so these are compared as well.
    upstream = replace(request, only=tuple(step.name for step in _upstream(found.step)))
    try:
        with run.locked(log):
            _remove([found.folder / "manifest.json", *(found.record_of(number) for number in found.lost)])
        log(f"{name}: {_what_is_made(found)} …")
        run_pipeline(upstream, lambda line: None)
    except BaseException:
        if found.manifest is not None:  # as before, damage and all, which every reader notices
            _write_again(found)
        raise
    made = run.manifest(name)
    if made is None or found.manifest is None:
        log(f"{name}: complete again")
    elif changed := sorted({file for file, _ in made.files.items() ^ found.manifest.files.items()}):
        more = f" and {len(changed) - 1} more files" if len(changed) > 1 else ""
        log(f"{name}: made again, but not the same: {changed[0]}{more}")
    else:
        with run.locked(log):
            _write_again(found)
        log(f"{name}: made again, and the same as before")


def _upstream(step: Step) -> list[Step]:
    """Return the steps that a step was made from, directly or not, and the step itself."""
    found: dict[str, Step] = {}

    def visit(each: Step) -> None:
        for read in (read for steps in each.inputs.values() for read in steps if read.name not in found):
            visit(read)
        found[each.name] = each

    visit(step)
    return list(found.values())


def _what_is_made(found: StepDamage) -> str:
    if found.num_chunks is None:
        return "planning its chunks again"
    if not found.lost:
        return "writing its manifest again"
    return f"making {len(found.lost)} of {found.num_chunks} chunks again" if found.num_chunks > 1 else "making it again"


def _write_again(found: StepDamage) -> None:
    """Write a step's manifest, and the records of its lost chunks, as they were."""
    assert found.manifest is not None
    for number in found.lost & found.records.keys():
        write_sealed(found.record_of(number), found.records[number].model_dump(exclude_none=True))
    write_sealed(found.folder / "manifest.json", found.manifest.model_dump(exclude_none=True))


def _put_away_all(found: StepDamage, run: RunDirectory) -> None:
    """Clear the places of damaged files that steer the run, and of whatever is no file at all.

    Damaged results stay until others replace them.
    """
    steering = {found.folder / name for name in ("manifest.json", "begun.json", CHECKPOINT)}
    plan = {found.folder / "chunks" / name for name in PLAN}
    for path in found.paths:
        is_steering = path in steering or path.parent == found.folder / "chunks"
        if is_steering or (os.path.lexists(path) and (path.is_symlink() or not path.is_file())):
            _put_away(path, run)
    if found.paths & plan:  # one is of no use without the other
        _remove(plan)


def _put_away(path: Path, run: RunDirectory) -> None:
    """Remove a damaged file; a folder in its place is somebody's, and is moved."""
    if path.is_dir() and not path.is_symlink():
        run.supersede([run.name_of(path)])
    else:
        _remove([path])


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)


def _outdated(recipe: Recipe, run: RunDirectory) -> dict[str, tuple[str, ...]]:
    """Return the complete steps from whose present files others were not made, with those others."""
    found: dict[str, list[str]] = {}
    digests: dict[str, str | None] = {}
    for step in build_plan(recipe):
        for name, digest in steps_read(step, run).items():
            if name not in digests:
                digests[name] = run.digest(name) if run.manifest(name) is not None else None
            if digests[name] not in (None, digest):
                found.setdefault(name, []).append(step.name)
    return {name: tuple(readers) for name, readers in found.items()}


def _request(recipe: Recipe, out: Path, level: Level) -> Request:
    """Return the request to resume a run by its own recipe."""
    return Request(recipe, out, shlex.join(["ltgc-local", "run", str(out)]), again=True, level=level)
