"""What is damaged in a run: files and the JSON that steers it, step by step. Nothing is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ltgc_local.methods.base import Step
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe
from ltgc_local.runs.chunk_plan import ChunkPlan
from ltgc_local.runs.complete_steps import number_of
from ltgc_local.runs.directory import CHECKPOINT, RunDirectory
from ltgc_local.runs.disk import Damaged, repair
from ltgc_local.runs.provenance import PROVENANCE, read_provenance_file
from ltgc_local.runs.schemas import Chunk, FileFacts, Manifest
from ltgc_local.runs.sealed import read_sealed
from ltgc_local.runs.verify import find_damage

T = TypeVar("T")
MADE_FROM = "reads "  # the prefix of a fingerprint's keys for what a step reads


@dataclass
class StepDamage:
    """What a look at a step's folder found.

    Attributes:
        manifest: None if there is none, or it is damaged.
        records: of the chunks that are complete, by number; damaged ones are missing.
        plan: of the chunks; None if there is none, or it is damaged.
        problems: each damaged file, and what is wrong with it.
        lost: numbers of the chunks that must be made again.
        was_complete: whether the step is, or was, complete.
    """

    step: Step
    folder: Path
    manifest: Manifest | None = None
    begun: dict[str, Any] | None = None
    records: dict[int, Chunk] = field(default_factory=dict)
    plan: ChunkPlan | None = None
    problems: list[tuple[Path, str]] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    was_complete: bool = False

    @property
    def paths(self) -> set[Path]:
        """The damaged files."""
        return {path for path, _ in self.problems}

    @property
    def made_from(self) -> dict[str, Any] | None:
        """The fingerprint that the step was made or begun with, if it is still known."""
        return self.manifest.fingerprint if self.manifest is not None else self.begun

    def record_of(self, number: int) -> Path:
        """Return the file that says that a chunk is complete."""
        return self.folder / "chunks" / f"{number:05d}.json"

    @property
    def num_chunks(self) -> int | None:
        """How many chunks the step has; None if only its stage can tell."""
        if self.step.stage.parallel != "chunks":
            return 1
        return None if self.plan is None else len(self.plan.chunks)


def look_at_step(step: Step, run: RunDirectory, has_readers: bool) -> StepDamage:
    """Compare everything in a step's folder with what was written.

    Args:
        has_readers: whether a later step was made from it, so it was complete once.

    Raises:
        ArtefactError: a file cannot be read, which is not damage.
    """
    folder = run.folder(step.name)
    found = StepDamage(step, folder)

    def attempt(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Damaged as damage:
            found.problems.append((damage.path, damage.problem))
            return None

    found.manifest = attempt(lambda: run.manifest(step.name))
    found.was_complete = has_readers or found.manifest is not None or bool(found.problems)
    found.begun = attempt(lambda: run.begun(step.name))
    found.plan = attempt(lambda: _whole_plan(step, run))
    numbers = {int(path.stem) for path in (folder / "chunks").glob("*.json") if path.stem.isdecimal()}
    for number in sorted(numbers):
        record = attempt(lambda number=number: read_sealed(found.record_of(number), Chunk, ""))  # type: ignore[misc]
        if record is not None:
            found.records[number] = record
    _look_at_files(found)
    if found.manifest is None and (folder / CHECKPOINT).is_file():
        from ltgc_local.training.checkpoints import read_checkpoint  # not above: it imports torch

        attempt(lambda: read_checkpoint(folder / CHECKPOINT))
    return found


def _whole_plan(step: Step, run: RunDirectory) -> ChunkPlan | None:
    plan = run.chunk_plan(step.name)
    if plan is not None:
        plan.check()
    return plan


def look_at_provenance(out: Path) -> tuple[Path, str] | None:
    """Return the run's provenance.json and what is wrong with it, if anything is."""
    try:
        is_there = read_provenance_file(out) is not None
    except Damaged as damage:
        return damage.path, damage.problem
    return None if is_there else (out / PROVENANCE, "not there")


def _look_at_files(found: StepDamage) -> None:
    """Find damaged files by the manifest, or else by the chunks' own records; and what was never there."""
    manifest = found.manifest
    files: dict[str, FileFacts] = {}
    if manifest is not None:
        files = manifest.files
    else:
        files = {file: facts for record in found.records.values() for file, facts in record.files.items()}
    damaged = list(find_damage(found.folder, files, afresh=True))
    found.problems += damaged
    found.lost = {number_of(path.name) for path, _ in damaged}
    gone = (set(range(found.num_chunks or 0)) | set(map(number_of, files))) - found.records.keys()
    gone = gone if found.was_complete else set()
    if manifest is None:
        found.lost |= gone
        path = found.folder / "manifest.json"
        if found.was_complete and path not in found.paths:
            found.problems.append((path, "not there, and later steps were made from this one"))
    else:
        known = found.paths
        records = (found.record_of(number) for number in sorted(gone))
        others = [found.folder / "begun.json"]
        if (found.folder / "chunks/plan.jsonl").exists():  # written before it
            others.append(found.folder / "chunks/plan.json")
        found.problems += [(path, "not there") for path in records if path not in known]
        found.problems += [(path, "not there") for path in others if path not in known and not os.path.lexists(path)]


def look_at_run(recipe: Recipe, run: RunDirectory) -> Iterator[StepDamage]:
    """Look at every step, in the order of the plan."""
    steps = build_plan(recipe)
    read = {name for step in steps for name in steps_read(step, run)}
    for step in steps:
        yield look_at_step(step, run, step.name in read)


def steps_read(step: Step, run: RunDirectory) -> dict[str, str]:
    """Return what a step was made from, as its folder says: name of a step -> digest of its files."""
    made_from: dict[str, Any] | None = None
    for read in (lambda: getattr(run.manifest(step.name), "fingerprint", None), lambda: run.begun(step.name)):
        try:
            made_from = made_from or read()
        except Damaged:
            continue
    keys = [key for key in made_from or {} if key.startswith(MADE_FROM)]
    return {key.removeprefix(MADE_FROM): str((made_from or {})[key]) for key in keys}


def find_all_damage(recipe: Recipe, out: Path) -> list[str]:
    """Compare every file of a run with what was written; return a message for each that is damaged."""
    run, remedy = RunDirectory(out), repair(out)
    found = [
        f"{path}: damaged: {problem}; {remedy}"
        for damage in look_at_run(recipe, run)
        for path, problem in damage.problems
    ]
    if damage := look_at_provenance(out):
        found.append(f"{damage[0]}: damaged: {damage[1]}; {remedy}")
    return found


def check_what_is_read(steps: Sequence[Step], run: RunDirectory) -> None:
    """See, before any work, that what the incomplete ones of ``steps`` read is there; sizes are compared, not content.

    Raises:
        Damaged: a file is gone or was cut, or a manifest is damaged.
    """
    incomplete = [step for step in steps if run.manifest(step.name) is None]
    for name in dict.fromkeys(name for step in incomplete for name in step.reads):
        changed = run.find_changed(name)
        if changed:
            more = f" (and {len(changed) - 1} more files of this step)" if len(changed) > 1 else ""
            raise Damaged(run.folder(name) / changed[0], f"gone, or of another size{more}", repair(run.root))
