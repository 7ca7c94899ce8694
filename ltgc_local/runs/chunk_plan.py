"""The plan of a step's chunks: which items each of them has, written once, before the first is made.

<step>/chunks/plan.jsonl    a line per chunk: its items
<step>/chunks/plan.json     each line's place, number of items and sha256; written last, so the plan is whole

A worker reads the lines of its own chunks alone, however many there are. So that the plan of a million images stays
small, an item may stand for several: it then says how many, as ``num_items``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import PlainSerializer, PlainValidator, SerializationInfo, TypeAdapter, ValidationInfo

from ltgc_local.regular_files import open_regular
from ltgc_local.runs.disk import Damaged, cannot_read, make_folder
from ltgc_local.runs.files import write_atomically
from ltgc_local.runs.schemas import ChunkPlanFile, PlannedChunk
from ltgc_local.runs.sealed import read_sealed, write_sealed


class StepFiles(Protocol):
    """The files of a run's complete steps, by their names in the run, each compared with its sha256."""

    def name_of(self, path: Path) -> str: ...
    def file(self, name: str) -> Path: ...


def _to_name(path: Path, info: SerializationInfo) -> str:
    return info.context.name_of(path)  # type: ignore[no-any-return, union-attr]


def _to_path(name: Any, info: ValidationInfo) -> Path:
    return info.context.file(str(name))  # type: ignore[no-any-return, union-attr]


#: A file of an earlier step. A plan holds its name in the run, which may be moved.
StepFile = Annotated[Path, PlainSerializer(_to_name), PlainValidator(_to_path)]


@dataclass(frozen=True)
class Planned:
    """Lines of a plan, as they will be written."""

    lines: Sequence[bytes]
    kind: str = "plan"
    suffix: str = "jsonl"

    def write(self, path: Path) -> None:
        with path.open("wb") as file:
            file.writelines(self.lines)


@dataclass(frozen=True)
class ChunkPlan:
    """A step's plan, as it was written.

    Attributes:
        sizes: the number of items of each chunk.
    """

    folder: Path
    chunks: Sequence[PlannedChunk]
    mend: str  # what to type where it is damaged

    @property
    def sizes(self) -> list[int]:
        return [chunk.items for chunk in self.chunks]

    def check(self) -> None:
        """Read every line; an ArtefactError says which one is not what was written."""
        for number in range(len(self.chunks)):
            self._line(number)

    def items(self, number: int, item: Any, files: StepFiles) -> list[Any]:
        """Read a chunk's items, which are of the type ``item``.

        Raises:
            ArtefactError: the plan, or a file that it names, is damaged.
        """
        try:
            items = list(_adapter(item).validate_json(self._line(number), context=files))
        except ValueError as problem:
            raise self._damage(f"chunk {number} does not fit this version ({problem})") from None
        if (found := count_items(items)) != self.chunks[number].items:
            raise self._damage(f"chunk {number} has {found} items, where {self.chunks[number].items} were planned")
        return items

    def _line(self, number: int) -> bytes:
        path, chunk = self.folder / "plan.jsonl", self.chunks[number]
        try:
            with open_regular(path) as file:
                file.seek(chunk.offset)
                line = file.read(chunk.bytes)
        except FileNotFoundError:
            raise self._damage("not there") from None
        except OSError as problem:
            raise cannot_read(path, problem, self.mend) from None
        if hashlib.sha256(line).hexdigest() != chunk.sha256:
            raise self._damage(f"its chunk {number} is not what was written")
        return line

    def _damage(self, problem: str) -> Damaged:
        return Damaged(self.folder / "plan.jsonl", problem, self.mend)


@cache
def _adapter(item: Any) -> TypeAdapter[Any]:
    return TypeAdapter(list[item])


def count_items(items: Iterable[Any]) -> int:
    """Return how many items there are, where one may stand for several."""
    return sum(getattr(item, "num_items", 1) for item in items)


def write_plan(folder: Path, chunks: Sequence[Sequence[Any]], item: Any, files: StepFiles) -> None:
    """Write the plan of chunks whose items are of the type ``item``.

    Raises:
        ArtefactError: it cannot be written.
    """
    lines = [_adapter(item).dump_json(list(chunk), context=files) + b"\n" for chunk in chunks]
    planned, offset = [], 0
    for line, chunk in zip(lines, chunks, strict=True):
        digest = hashlib.sha256(line).hexdigest()
        planned.append({"offset": offset, "bytes": len(line), "items": count_items(chunk), "sha256": digest})
        offset += len(line)
    make_folder(folder)
    write_atomically(Planned(lines), folder / "plan.jsonl")
    write_sealed(folder / "plan.json", {"chunks": planned})


def read_plan(folder: Path, mend: str) -> ChunkPlan | None:
    """Read the plan of a step; None where there is none yet.

    Args:
        mend: what to type where it is damaged.

    Raises:
        ArtefactError: it is damaged.
    """
    found = read_sealed(folder / "plan.json", ChunkPlanFile, mend)
    return None if found is None else ChunkPlan(folder, found.chunks, mend)
