"""What the complete steps of a run wrote: manifests, files found whole, and the records and values in them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from ltgc_local.errors import ArtefactError
from ltgc_local.records import R, parse_lines, parse_records
from ltgc_local.regular_files import MAX_JSON_BYTES, parse_json, read_text
from ltgc_local.runs.disk import Damaged, cannot_read, redo, repair
from ltgc_local.runs.files import GeneratedImage, read_images
from ltgc_local.runs.generated import read_index
from ltgc_local.runs.row_index import RowIndex
from ltgc_local.runs.schemas import FileFacts, Manifest
from ltgc_local.runs.sealed import first_problem, read_sealed
from ltgc_local.runs.verify import Stamp, find_damage

_FILE_NAME = re.compile(r"(?P<kind>.+?)(-(?P<number>[0-9]{5,}))?\.[a-z]+")
Schema = TypeVar("Schema", bound=BaseModel)
T = TypeVar("T")


class CompleteSteps:
    """Reads what complete steps wrote; ``RunDirectory`` writes it.

    Every method raises an ArtefactError where a file is damaged or cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._whole: dict[Path, Stamp] = {}  # files that this process has verified
        self._read: dict[Path, tuple[tuple[int, ...], Any]] = {}  # manifests and plans, and how their files were
        self._digests: dict[str, tuple[Manifest, str]] = {}

    def folder(self, step: str) -> Path:
        """Return a step's folder; a name that leads out of the run, as a received run may give, is refused."""
        if step.startswith("/") or ".." in step.split("/"):
            raise ArtefactError(f"{self.root}: names a step outside the run, {step!r}")
        return self.root / step

    def manifest(self, step: str) -> Manifest | None:
        """Return the manifest of a complete step, or None; one that was read before and has not changed is kept."""
        path = self.folder(step) / "manifest.json"
        return self.unchanged(path, lambda: read_sealed(path, Manifest, repair(self.root)))

    def unchanged(self, path: Path, read: Callable[[], T | None]) -> T | None:
        """Return what ``read`` returned when it last read the file, or None; it reads again where the file changed."""
        state: tuple[int, ...] = ()
        with suppress(OSError):  # reading it says what is wrong
            facts = path.lstat()
            state = facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
        known = self._read.get(path)
        if known is not None and known[0] == state:
            return cast(T, known[1])
        found = read()
        if found is not None:
            self._read[path] = state, found
        return found

    def digest(self, step: str) -> str:
        """Return a sha256 of the names and digests of a step's files, for the fingerprints of steps that read it."""
        manifest, known = self.manifest(step), self._digests.get(step)
        if manifest is not None and known is not None and known[0] is manifest:
            return known[1]
        files = {} if manifest is None else {name: dict(facts) for name, facts in manifest.files.items()}
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        if manifest is not None:
            self._digests[step] = manifest, digest
        return digest

    def _manifest_files(self, step: str) -> dict[str, FileFacts]:
        manifest = self.manifest(step)
        return {} if manifest is None else manifest.files

    def name_of(self, path: Path) -> str:
        """Return the name in the run of a file of a step."""
        return path.relative_to(self.root).as_posix()

    def file(self, name: str) -> Path:
        """Return a complete step's file by its name in the run, found whole; the step's other files are not read.

        Raises:
            ArtefactError: as ``files``.
        """
        step, _, file = name.rpartition("/")
        facts = self._complete(step).files.get(file)
        if facts is None:
            raise ArtefactError(f"{self.root / name}: not a file of the step {step}; {redo(self.root, step)}")
        self._check(step, {file: facts}, remembers=False)
        return self.root / name

    def files(self, step: str, kind: str) -> list[Path]:
        """Return a complete step's files of one kind, in the order of their chunks, once each was found whole."""
        facts, names = self._complete(step).files, self.names(step, kind)
        self._check(step, {name: facts[name] for name in names})
        return [self.folder(step) / name for name in names]

    def names(self, step: str, kind: str) -> list[str]:
        """Return the names of a complete step's files of one kind, in the order of their chunks."""
        return sorted((name for name in self._complete(step).files if kind_of(name) == kind), key=number_of)

    def _complete(self, step: str) -> Manifest:
        manifest = self.manifest(step)
        if manifest is None:
            raise ArtefactError(f"{self.folder(step)}: step {step} is not complete; {redo(self.root, step)}")
        return manifest

    def _check(self, step: str, wanted: Mapping[str, FileFacts], *, remembers: bool = True) -> None:
        problems = list(find_damage(self.folder(step), wanted, self._whole, remembers=remembers))
        if problems:
            path, problem = problems[0]
            more = f" (and {len(problems) - 1} more files of this step)" if len(problems) > 1 else ""
            raise Damaged(path, f"{problem}{more}", repair(self.root))

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
        return [name for name, facts in self._manifest_files(step).items() if not has_size(folder / name, facts)]

    def lines(self, step: str, kind: str) -> list[dict[str, Any]]:
        """Read all lines of one kind that a step wrote, whatever record they hold."""
        parsed = self.parsed(step, kind, lambda text: parse_lines(text.split("\n")))
        return list(chain.from_iterable(parsed))

    def records(self, step: str, kind: str, record: type[R]) -> list[R]:
        """Read all records of one kind that a step wrote."""
        return list(self.iterate(step, kind, record))

    def iterate(self, step: str, kind: str, record: type[R]) -> Iterator[R]:
        """Yield all records of one kind that a step wrote; memory holds one file of them."""
        # Not splitlines(): it also splits at U+2028 and U+0085, which JSON leaves inside a model's words.
        return chain.from_iterable(self.parsed(step, kind, lambda text: parse_records(record, text.split("\n"))))

    def images(self, step: str, kind: str = "images") -> list[GeneratedImage]:
        """Read all generated images that a step wrote."""
        return read_images(self.files(step, kind))

    def index(self, step: str) -> RowIndex:
        """Read the keys of a step's images, in their order, and where the images are."""
        return read_index(self.files(step, "images")).sorted()

    def values(self, step: str, kind: str) -> list[Any]:
        """Read the JSON values of one kind that a step wrote, one per chunk."""
        return list(self.parsed(step, kind, parse_json))

    def value(self, step: str, kind: str) -> Any:
        """Read the JSON value that a one-chunk step wrote."""
        return self.parse_file(self.file_of(step, kind), parse_json)

    def checked(self, step: str, kind: str, schema: type[Schema]) -> Schema:
        """Read the JSON value that a one-chunk step wrote, which must fit the schema."""
        value = self.value(step, kind)
        try:
            return schema.model_validate(value)
        except ValidationError as problem:
            raise self._misfit(self.file_of(step, kind), step, first_problem(problem)) from None

    def parsed(self, step: str, kind: str, parse: Callable[[str], T]) -> Iterator[T]:
        """Yield ``parse`` of the text of each file of one kind that a step wrote.

        Raises:
            ArtefactError: a file is damaged, or an error of ``parse`` says that in a
                received run it holds something else.
        """
        return (self.parse_file(path, parse) for path in self.files(step, kind))

    def parse_file(self, path: Path, parse: Callable[[str], T]) -> T:
        """Parse a file that was found whole; in a received run it may still hold anything.

        Raises:
            ArtefactError: as ``parsed``.
        """
        step = path.parent.relative_to(self.root).as_posix()
        try:
            return parse(read_text(path, MAX_JSON_BYTES))
        except OSError as problem:
            raise cannot_read(path, problem, redo(self.root, step)) from None
        except (ValueError, TypeError, LookupError, OverflowError) as problem:
            raise self._misfit(path, step, str(problem)) from None

    def _misfit(self, path: Path, step: str, problem: str) -> ArtefactError:
        return ArtefactError(f"{path}: not what this version of ltgc-local writes ({problem}); {redo(self.root, step)}")


def kind_of(name: str) -> str:
    return _FILE_NAME.fullmatch(name)["kind"]  # type: ignore[index]


def number_of(name: str) -> int:
    """Return the number of the chunk that wrote a file: 0 where the stage made all files at once."""
    return int(_FILE_NAME.fullmatch(name)["number"] or 0)  # type: ignore[index]


def has_size(path: Path, facts: FileFacts) -> bool:
    try:
        return path.lstat().st_size == facts.bytes
    except OSError:
        return False
