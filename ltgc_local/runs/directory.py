"""The run directory and its layout.

<run>/recipe.json                    the resolved recipe
<run>/provenance.json                version, packages, machine, digests of models and data
<run>/.lock-<host>-<pid>-<random>    while a launcher runs here (``runs.lock``)
<run>/<step>/<kind>-00000.<suffix>   the files of chunk 0
<run>/draw/features-00000.safetensors  CLIP features of images-00000.parquet, by key (draw.clip_features)
<run>/<step>/begun.json              the fingerprint of a step that has begun
<run>/<step>/chunks/plan.json        which items each chunk has (``runs.chunk_plan``)
<run>/<step>/chunks/00000.json       written last in chunk 0: its files, sizes, seconds; the chunk is complete
<run>/<step>/manifest.json           written last of all: fingerprint and files; the step is complete
<run>/<step>/verified.json           which large files were found whole, and when (``runs.verify``)
<run>/<step>/metrics.jsonl           the step's numbers while it runs (``runs.metrics``)
<run>/<step>/logs/                   the workers' logs (``runs.logs``)
<run>/<training>/checkpoint.safetensors   where a killed training resumes; not needed once the step is complete
<run>/decoded/<split>-<digest>.npy   decoded images that do not fit into memory; removed when the run is complete
<run>/superseded/<n>/<step>          what ``--from`` replaced; nothing is ever deleted
<runs>/<table>/<row>/seed-<n>        a run of a table of recipes: each is an ordinary run directory
<runs>/<table>/table.json            the table's rows, in its order

Every JSON file above ends with its own sha256 (``runs.sealed``). The manifest holds the sha256 of each of its step's
files, which are compared with it before they are used. They are regular files in the step's own folder, never links.
Logs and metrics are for people: no result depends on them, and no digest includes them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ltgc_local.errors import ArtefactError
from ltgc_local.records import R, parse_records
from ltgc_local.regular_files import MAX_JSON_BYTES, digest_file, parse_json, read_text
from ltgc_local.runs.chunk_plan import ChunkPlan, read_plan, write_plan
from ltgc_local.runs.costs import costs_of
from ltgc_local.runs.disk import Damaged, cannot_read, make_folder, redo, repair, writing
from ltgc_local.runs.files import Artefact, GeneratedImage, read_images, write_atomically
from ltgc_local.runs.generated import GeneratedRow, read_rows
from ltgc_local.runs.lock import locked
from ltgc_local.runs.logs import read_warnings
from ltgc_local.runs.schemas import Chunk, FileFacts, Manifest
from ltgc_local.runs.sealed import first_problem, read_object, read_sealed, write_sealed
from ltgc_local.runs.verify import Stamp, find_damage

_FILE_NAME = re.compile(r"(?P<kind>.+?)(-(?P<number>[0-9]{5,}))?\.[a-z]+")
_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")  # of ``write_atomically`` and of decoding
Schema = TypeVar("Schema", bound=BaseModel)
T = TypeVar("T")

log = logging.getLogger(__name__)


class RunDirectory:
    """Paths, manifests and records of one run.

    Every method raises an ArtefactError where a file is damaged, or cannot be read or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._whole: dict[Path, Stamp] = {}  # files that this process has verified

    @property
    def decoded(self) -> Path:
        """The folder of decoded images that do not fit into memory; it may be removed at any time."""
        return self.root / "decoded"

    def folder(self, step: str) -> Path:
        """Return a step's folder; a name that leads out of the run, as a received run may give, is refused."""
        if step.startswith("/") or ".." in step.split("/"):
            raise ArtefactError(f"{self.root}: names a step outside the run, {step!r}")
        return self.root / step

    def manifest(self, step: str) -> Manifest | None:
        """Return the manifest of a complete step, or None."""
        return read_sealed(self.folder(step) / "manifest.json", Manifest, repair(self.root))

    def begun(self, step: str) -> dict[str, Any] | None:
        """Return the fingerprint of a step that has begun, or None."""
        return read_object(self.folder(step) / "begun.json", repair(self.root))

    def begin(self, step: str, fingerprint: dict[str, Any]) -> None:
        """Note what a step is made from, before it begins."""
        make_folder(self.folder(step))
        write_sealed(self.folder(step) / "begun.json", fingerprint)

    def digest(self, step: str) -> str:
        """Return a sha256 of the names and digests of a step's files, for the fingerprints of steps that read it."""
        files = {name: dict(facts) for name, facts in self._manifest_files(step).items()}
        return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()

    def _manifest_files(self, step: str) -> dict[str, FileFacts]:
        manifest = self.manifest(step)
        return {} if manifest is None else manifest.files

    def name_of(self, path: Path) -> str:
        """Return the name in the run of a file of a step."""
        return path.relative_to(self.root).as_posix()

    def file(self, name: str) -> Path:
        """Return a complete step's file by its name in the run, found whole.

        Raises:
            ArtefactError: as ``files``.
        """
        path = self.root / name
        if path not in self._whole:
            step, _, file = name.rpartition("/")
            self.files(step, _kind(file) if _FILE_NAME.fullmatch(file) else "")
            if path not in self._whole:
                raise ArtefactError(f"{path}: not a file of the step {step}; {redo(self.root, step)}")
        return path

    def chunk_plan(self, step: str) -> ChunkPlan | None:
        """Return the plan of a step's chunks; None before there is one, and of a step that has no chunks.

        Raises:
            ArtefactError: it is damaged.
        """
        return read_plan(self.folder(step) / "chunks", repair(self.root))

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

    def files(self, step: str, kind: str) -> list[Path]:
        """Return a complete step's files of one kind, in the order of their chunks, once each was found whole."""
        manifest, folder = self.manifest(step), self.folder(step)
        if manifest is None:
            raise ArtefactError(f"{folder}: step {step} is not complete; {redo(self.root, step)}")
        names = sorted((name for name in manifest.files if _kind(name) == kind), key=number_of)
        problems = list(find_damage(folder, {name: manifest.files[name] for name in names}, self._whole))
        if problems:
            path, problem = problems[0]
            more = f" (and {len(problems) - 1} more files of this step)" if len(problems) > 1 else ""
            raise Damaged(path, f"{problem}{more}", repair(self.root))
        return [folder / name for name in names]

    def file_of(self, step: str, kind: str) -> Path:
        """Return the one file of a kind that a complete step wrote, once it was found whole."""
        files = self.files(step, kind)
        if not files:
            raise ArtefactError(f"{self.folder(step)}: holds no {kind}; {redo(self.root, step)}")
        return files[0]

    def find_damage(self, step: str, *, afresh: bool = False) -> list[tuple[Path, str]]:
        """Return a complete step's files that are not what was written, and what is wrong with each.

        Args:
            afresh: hash all files, including those that were found whole before.
        """
        return list(find_damage(self.folder(step), self._manifest_files(step), afresh=afresh))

    def find_changed(self, step: str) -> list[str]:
        """Return the names of a complete step's files that are gone or have another size; nothing is read."""
        folder = self.folder(step)
        return [name for name, facts in self._manifest_files(step).items() if not _has_size(folder / name, facts)]

    def lines(self, step: str, kind: str) -> list[dict[str, Any]]:
        """Read all lines of one kind that a step wrote, whatever record they hold."""
        return self._read(step, kind, lambda text: [parse_json(line) for line in text.split("\n") if line])

    def records(self, step: str, kind: str, record: type[R]) -> list[R]:
        """Read all records of one kind that a step wrote."""
        # Not splitlines(): it also splits at U+2028 and U+0085, which JSON leaves inside a model's words.
        return self._read(step, kind, lambda text: parse_records(record, text.split("\n")))

    def images(self, step: str, kind: str = "images") -> list[GeneratedImage]:
        """Read all generated images that a step wrote."""
        return read_images(self.files(step, kind))

    def generated(self, step: str) -> list[GeneratedRow]:
        """Read the facts about a step's images, but not the images, in the order of their keys."""
        return sorted(read_rows(self.files(step, "images")), key=lambda row: row.key)

    def values(self, step: str, kind: str) -> list[Any]:
        """Read the JSON values of one kind that a step wrote, one per chunk."""
        return self._read(step, kind, lambda text: [parse_json(text)])

    def values_so_far(self, step: str, kind: str) -> list[Any]:
        """Read the JSON values of one kind from the complete chunks of a step that may not be complete."""
        names = [name for chunk in self.complete_chunks(step).values() for name in chunk.files if _kind(name) == kind]
        return [self._parsed(self.folder(step) / name, step, parse_json) for name in names]

    def value(self, step: str, kind: str) -> Any:
        """Read the JSON value that a one-chunk step wrote."""
        return self._parsed(self.file_of(step, kind), step, parse_json)

    def checked(self, step: str, kind: str, schema: type[Schema]) -> Schema:
        """Read the JSON value that a one-chunk step wrote, which must fit the schema."""
        value = self.value(step, kind)
        try:
            return schema.model_validate(value)
        except ValidationError as problem:
            raise self._misfit(self.file_of(step, kind), step, first_problem(problem)) from None

    def _read(self, step: str, kind: str, parse: Callable[[str], list[T]]) -> list[T]:
        return [found for path in self.files(step, kind) for found in self._parsed(path, step, parse)]

    def _parsed(self, path: Path, step: str, parse: Callable[[str], T]) -> T:
        """Parse a file that is whole; in a received run it may still hold anything."""
        try:
            return parse(read_text(path, MAX_JSON_BYTES))
        except OSError as problem:
            raise cannot_read(path, problem, redo(self.root, step)) from None
        except (ValueError, TypeError) as problem:
            raise self._misfit(path, step, str(problem)) from None

    def _misfit(self, path: Path, step: str, problem: str) -> ArtefactError:
        return ArtefactError(f"{path}: not what this version of ltgc-local writes ({problem}); {redo(self.root, step)}")

    def complete_chunks(self, step: str) -> dict[int, Chunk]:
        """Return the chunks that are complete and whose files are there, by number."""
        chunks = {}
        folder = self.folder(step)
        for path in (folder / "chunks").glob("*.json"):
            if not path.stem.isdecimal():
                continue
            try:
                chunk = read_sealed(path, Chunk, "the chunk is made again")
            except ArtefactError as problem:  # cut short by a crash of the machine, say
                log.warning("%s", problem)
                continue
            if chunk is not None and all(_has_size(folder / name, facts) for name, facts in chunk.files.items()):
                chunks[int(path.stem)] = chunk
        return dict(sorted(chunks.items()))

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
            stem = f"{artefact.kind}-{number:05d}" if numbered else artefact.kind
            path = folder / f"{stem}.{artefact.suffix}"
            write_atomically(artefact, path)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": digest_file(path)}
        write_sealed(folder / "chunks" / f"{number:05d}.json", {"files": files, **facts})

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

    def _sweep(self) -> None:
        """Remove temporary files: only the holder of the run writes, so their writers are dead."""
        for folder, folders, names in os.walk(self.root):
            if Path(folder) == self.root:
                folders[:] = [name for name in folders if name != "superseded"]
            for name in names:
                if _TEMPORARY.fullmatch(name):
                    Path(folder, name).unlink(missing_ok=True)


def _kind(name: str) -> str:
    return _FILE_NAME.fullmatch(name)["kind"]  # type: ignore[index]


def number_of(name: str) -> int:
    """Return the number of the chunk that wrote a file: 0 where the stage made all files at once."""
    return int(_FILE_NAME.fullmatch(name)["number"] or 0)  # type: ignore[index]


def _has_size(path: Path, facts: FileFacts) -> bool:
    try:
        return path.lstat().st_size == facts.bytes
    except OSError:
        return False
