"""The run directory and its layout.

<run>/recipe.json                    the resolved recipe
<run>/provenance.json                version, packages, machine, digests of models and data
<run>/.lock-<host>-<pid>-<random>       while a launcher runs here (``runs.lock``)
<run>/<step>/<kind>-00000.<suffix>   the files of chunk 0
<run>/draw/features-00000.safetensors  CLIP features of images-00000.parquet, by key (draw.clip_features)
<run>/<step>/begun.json              the fingerprint of a step that has begun
<run>/<step>/chunks/plan.json        which items each chunk has (``runs.chunk_plan``)
<run>/<step>/chunks/00000.lease      while a worker makes chunk 0 (``runs.leases``)
<run>/<step>/chunks/00000.json       written last in chunk 0: its files, sizes, seconds; the chunk is complete
<run>/<step>/manifest.json           written last of all: fingerprint and files; the step is complete
<run>/<step>/verified.json           which large files were found whole, and when (``runs.verify``)
<run>/<step>/metrics.jsonl           the step's numbers while it runs (``runs.metrics``)
<run>/<step>/logs/                   the workers' logs (``runs.logs``)
<run>/timeline.jsonl                 which worker worked on which step, and when (``runs.timeline``)
<run>/<training>/checkpoint.safetensors   where a killed training resumes; removed once the step is complete
<run>/decoded/<split>-<digest>.npy   decoded images that do not fit into memory; removed after the last training
<run>/superseded/<n>/<step>          what ``--from`` replaced; nothing is ever deleted
<runs>/<table>/<row>/seed-<n>        a run of a table of recipes: each is an ordinary run directory
<runs>/<table>/table.json            the table's rows, in its order

Every JSON file above ends with its own sha256 (``runs.sealed``). The manifest holds the sha256 of each of its step's
files, which are compared with it before they are used. They are regular files in the step's own folder, never links.
Logs and metrics are for people: no result depends on them, and no digest includes them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltgc_local.errors import ArtefactError
from ltgc_local.regular_files import digest_file, parse_json
from ltgc_local.runs.chunk_plan import ChunkPlan, read_plan, write_plan
from ltgc_local.runs.complete_steps import CompleteSteps, has_size, kind_of
from ltgc_local.runs.costs import costs_of
from ltgc_local.runs.disk import make_folder, redo, repair, writing
from ltgc_local.runs.files import Artefact, write_atomically
from ltgc_local.runs.leases import LEASE
from ltgc_local.runs.lock import locked
from ltgc_local.runs.logs import read_warnings
from ltgc_local.runs.schemas import Chunk, Manifest
from ltgc_local.runs.sealed import read_object, read_sealed, write_sealed

CHECKPOINT = "checkpoint.safetensors"  # of a training step, in the step's folder
_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")  # of ``write_atomically`` and of decoding

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChunkSizes:
    """The items of a step's complete chunks, and of all."""

    complete: int
    total: int


class RunDirectory(CompleteSteps):
    """Paths, manifests and records of one run.

    Every method raises an ArtefactError where a file is damaged, or cannot be read or written.
    """

    @property
    def decoded(self) -> Path:
        """The folder of decoded images that do not fit into memory; it may be removed at any time."""
        return self.root / "decoded"

    def begun(self, step: str) -> dict[str, Any] | None:
        """Return the fingerprint of a step that has begun, or None."""
        return read_object(self.folder(step) / "begun.json", repair(self.root))

    def begin(self, step: str, fingerprint: dict[str, Any]) -> None:
        """Note what a step is made from, before it begins."""
        make_folder(self.folder(step))
        write_sealed(self.folder(step) / "begun.json", fingerprint)

    def chunk_plan(self, step: str) -> ChunkPlan | None:
        """Return the plan of a step's chunks; None before there is one, and of a step that has no chunks.

        Raises:
            ArtefactError: it is damaged.
        """
        folder = self.folder(step) / "chunks"
        return self.unchanged(folder / "plan.json", lambda: read_plan(folder, repair(self.root)))

    def num_chunks(self, step: str) -> int:
        """Return how many chunks a step's plan has."""
        plan = self.chunk_plan(step)
        if plan is None:
            raise ArtefactError(f"{self.folder(step)}: its chunks are not planned; {redo(self.root, step)}")
        return len(plan.chunks)

    def write_chunk_plan(self, step: str, chunks: Sequence[Sequence[Any]], item: Any) -> ChunkPlan:
        """Write the plan of a step's chunks, whose items are of the type ``item``, and return it."""
        write_plan(self.folder(step) / "chunks", chunks, item, self)
        plan = self.chunk_plan(step)
        assert plan is not None
        return plan

    def values_of(self, step: str, numbers: Collection[int], kind: str) -> list[Any]:
        """Read the JSON values of one kind from complete chunks of a step that may not be complete."""
        chunks = [chunk for number in sorted(numbers) if (chunk := self.complete_chunk(step, number)) is not None]
        names = [name for chunk in chunks for name in chunk.files if kind_of(name) == kind]
        return [self.parse_file(self.folder(step) / name, parse_json) for name in names]

    def complete_chunks(self, step: str) -> dict[int, Chunk]:
        """Return the chunks that are complete and whose files are there, by number."""
        names = [path.stem for path in (self.folder(step) / "chunks").glob("*.json") if path.stem.isdecimal()]
        found = {number: self.complete_chunk(step, number) for number in sorted(map(int, names))}
        return {number: chunk for number, chunk in found.items() if chunk is not None}

    def count_complete_chunks(self, step: str) -> int:
        """Return how many chunks were written, by their files' names."""
        return len(self._chunk_names(step))

    def chunk_sizes(self, step: str) -> ChunkSizes | None:
        """Return how many items of a step's chunks are complete, by their files' names; None without a plan."""
        plan = self.chunk_plan(step)
        if plan is None:
            return None
        names = self._chunk_names(step)
        sizes = plan.sizes
        complete = sum(size for number, size in enumerate(sizes) if chunk_name(number) in names)
        return ChunkSizes(complete, sum(sizes))

    def _chunk_names(self, step: str) -> set[str]:
        """List the chunks that were written; launchers and ``status`` do it often, so no path is made of a name."""
        try:
            names = os.listdir(self.folder(step) / "chunks")
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {name[:-5] for name in names if name.endswith(".json") and name[:-5].isdecimal()}

    def complete_chunk(self, step: str, number: int) -> Chunk | None:
        """Return a chunk if it is complete and its files are there."""
        folder = self.folder(step)
        try:
            chunk = read_sealed(folder / "chunks" / f"{chunk_name(number)}.json", Chunk, "the chunk is made again")
        except ArtefactError as problem:  # cut short by a crash of the machine, say
            log.warning("%s", problem)
            return None
        is_there = chunk is not None and all(has_size(folder / name, facts) for name, facts in chunk.files.items())
        return chunk if is_there else None

    def write_chunk(
        self, step: str, number: int, artefacts: list[Artefact], facts: dict[str, Any], numbered: bool = True
    ) -> None:
        """Write a chunk's files, then the file that says that it is complete.

        Args:
            numbered: put the chunk's number into the files' names; one-chunk stages leave it out.
        """
        folder = self.folder(step)
        make_folder(folder / "chunks")
        files = {}
        for artefact in artefacts:
            stem = f"{artefact.kind}-{chunk_name(number)}" if numbered else artefact.kind
            path = folder / f"{stem}.{artefact.suffix}"
            write_atomically(artefact, path)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": digest_file(path)}
        write_sealed(folder / "chunks" / f"{chunk_name(number)}.json", {"files": files, **facts})

    def write_manifest(self, step: str, fingerprint: dict[str, Any], num_chunks: int, wall_seconds: float) -> Manifest:
        """Declare a step complete; refuse to where chunks are missing."""
        chunks = self.complete_chunks(step)
        missing = [number for number in range(num_chunks) if number not in chunks]
        if missing:
            raise ArtefactError(f"{step}: {len(missing)} of {num_chunks} chunks are missing (first: {missing[0]})")
        done = [chunks[number] for number in range(num_chunks)]
        manifest = Manifest(
            step=step,
            fingerprint=fingerprint,
            seconds=round(sum(chunk.seconds for chunk in done), 2),
            wall_seconds=wall_seconds,
            peak_mib=max((chunk.peak_mib for chunk in done), default=0),
            items=sum(chunk.items for chunk in done),
            files={name: facts for chunk in done for name, facts in chunk.files.items()},
            warnings=read_warnings(self.folder(step)),
            costs=costs_of(done),
        )
        self.folder(step).mkdir(parents=True, exist_ok=True)  # a step with nothing to do has written nothing
        write_sealed(self.folder(step) / "manifest.json", manifest.model_dump(exclude_none=True))
        (self.folder(step) / CHECKPOINT).unlink(missing_ok=True)
        return manifest

    def reopen(self, step: str) -> None:
        """Prepare to redo a complete step in its place; only for steps that nothing else reads."""
        folder = self.folder(step)
        for path in (folder / "manifest.json", *(folder / "chunks").glob("*.json")):
            with writing(path):
                path.unlink(missing_ok=True)

    def supersede(self, steps: list[str]) -> None:
        """Move steps' folders to superseded/<n>/, for the first free n."""
        number = 0
        while (self.root / "superseded" / str(number)).exists():
            number += 1
        for step in steps:
            if self.folder(step).exists():
                target = self.root / "superseded" / str(number) / step
                with writing(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(self.folder(step), target)

    @contextmanager
    def locked(self, say: Callable[[str], None] = log.warning) -> Iterator[None]:
        """Hold the run for this process, and remove what killed writers left; refuse if a live process holds it.

        Args:
            say: called with the reason if acquiring the lock takes a while.
        """
        make_folder(self.root)
        with locked(self.root, say):
            self._sweep()
            try:
                yield
            except BaseException:  # workers that were stopped may have left something
                with suppress(OSError):  # a read-only disk, say, which is what went wrong
                    self._sweep()
                raise

    def shared(self, say: Callable[[str], None] = log.warning) -> AbstractContextManager[None]:
        """Hold the run beside others, each of which makes what none of the others makes; refuse as ``locked``."""
        make_folder(self.root)
        return locked(self.root, say, is_shared=True)

    def _sweep(self) -> None:
        """Remove temporary files and leases: only the holder of the run writes, so their owners are dead."""
        for folder, folders, names in os.walk(self.root):
            if Path(folder) == self.root:
                folders[:] = [name for name in folders if name != "superseded"]
            for name in names:
                if _TEMPORARY.fullmatch(name) or name.endswith(LEASE):
                    Path(folder, name).unlink(missing_ok=True)


def chunk_name(number: int) -> str:
    """Return a chunk's number as it stands in the names of its files."""
    return f"{number:05d}"
