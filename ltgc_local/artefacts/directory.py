"""The run directory, a documented contract.

<run>/recipe.json                    the resolved recipe
<run>/provenance.json                version, packages, machine, card and data digests
<run>/<step>/<kind>-00000.<suffix>   the files of chunk 0
<run>/draw/features-00000.safetensors  a clip's rows of images-00000.parquet, keyed by item (draw.clip_features)
<run>/<step>/chunks/00000.json       written last of chunk 0: its files, sizes, seconds; the chunk is complete
<run>/<step>/manifest.json           written last of all: fingerprint and files; the step is complete
<run>/<training>/checkpoint.safetensors   what a killed training goes on from; of no use once the step is complete
<run>/decoded/<split>-<digest>.npy   decoded images that memory does not hold; removed when the run is complete
<run>/superseded/<n>/<step>          what ``--from`` replaced; nothing is ever deleted
<runs>/<table>/<row>/seed-<n>        a run of a table of recipes: each is an ordinary run directory
<runs>/<table>/table.json            the table's rows, in its order
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ltgc_local.artefacts.drawn import DrawnRow, read_rows
from ltgc_local.artefacts.files import Artefact, DrawnImage, Json, cannot_write, read_images, write_atomically
from ltgc_local.errors import ArtefactError
from ltgc_local.records import R, parse_records

_FILE_NAME = re.compile(r"(?P<kind>.+?)(-[0-9]{5})?\.[a-z]+")


class RunDirectory:
    """Paths, manifests and records of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def decoded(self) -> Path:
        """The folder of decoded images that memory does not hold; it may be removed at any time."""
        return self.root / "decoded"

    def folder(self, step: str) -> Path:
        return self.root / step

    def manifest(self, step: str) -> dict[str, Any] | None:
        """Return the manifest of a complete step, or None.

        Raises:
            ArtefactError: it is there and cannot be read.
        """
        path = self.folder(step) / "manifest.json"
        if not path.is_file():
            return None
        try:
            manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise ArtefactError(f"{path}: damaged ({problem}); type: ltgc-local run … --from {step}") from None
        return manifest

    def digest(self, step: str) -> str:
        """Return sha256 of a step's manifest: what the steps that read it put in their fingerprint."""
        files = (self.manifest(step) or {}).get("files", {})
        return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()

    def files(self, step: str, kind: str) -> list[Path]:
        """Return a complete step's files of one kind, in the order of their chunks.

        Raises:
            ArtefactError: the step is not complete, or a file is missing or has another size than when it was written.
        """
        manifest = self.manifest(step)
        if manifest is None:
            raise ArtefactError(
                f"{self.folder(step)}: step {step} is not complete; type: ltgc-local run … --from {step}"
            )
        found = []
        for name, facts in manifest["files"].items():
            if _FILE_NAME.fullmatch(name).group("kind") != kind:  # type: ignore[union-attr]
                continue
            path = self.folder(step) / name
            if not path.is_file() or path.stat().st_size != facts["bytes"]:
                raise ArtefactError(f"{path}: missing or cut short; type: ltgc-local run … --from {step}")
            found.append(path)
        return sorted(found)

    def lines(self, step: str, kind: str) -> list[dict[str, Any]]:
        """Read all lines of one kind that a step wrote, whatever record they are of."""
        return [
            json.loads(line) for path in self.files(step, kind) for line in path.read_text("utf-8").split("\n") if line
        ]

    def records(self, step: str, kind: str, record: type[R]) -> list[R]:
        """Read all records of one kind that a step wrote."""
        # Not splitlines(): it also splits at U+2028 and U+0085, which JSON leaves inside a model's words.
        paths = self.files(step, kind)
        return [r for path in paths for r in parse_records(record, path.read_text("utf-8").split("\n"))]

    def images(self, step: str, kind: str = "images") -> list[DrawnImage]:
        """Read all drawn images that a step wrote."""
        return read_images(self.files(step, kind))

    def drawn(self, step: str) -> list[DrawnRow]:
        """Read what a step's shards say of their images, in the order of their keys, and not the images."""
        return sorted(read_rows(self.files(step, "images")), key=lambda row: row.key)

    def value(self, step: str, kind: str) -> Any:
        """Read the JSON value that a one-chunk step wrote."""
        return json.loads(self.files(step, kind)[0].read_text("utf-8"))

    def complete_chunks(self, step: str) -> dict[int, dict[str, Any]]:
        """Return the facts of the chunks that are complete and whose files are whole."""
        chunks = {}
        for path in sorted((self.folder(step) / "chunks").glob("?????.json")):
            try:
                facts = json.loads(path.read_text("utf-8"))
            except ValueError:  # cut short by a crash of the machine: the chunk is made again
                continue
            sizes = {name: self.folder(step) / name for name in facts["files"]}
            if all(p.is_file() and p.stat().st_size == facts["files"][n]["bytes"] for n, p in sizes.items()):
                chunks[int(path.stem)] = facts
        return chunks

    def write_chunk(
        self, step: str, number: int, artefacts: list[Artefact], facts: dict[str, Any], numbered: bool = True
    ) -> None:
        """Write a chunk's files, then the file that says that it is complete.

        Args:
            numbered: put the chunk's number into the files' names; a stage of one chunk does without.
        """
        folder = self.folder(step)
        (folder / "chunks").mkdir(parents=True, exist_ok=True)
        files = {}
        for artefact in artefacts:
            stem = f"{artefact.kind}-{number:05d}" if numbered else artefact.kind
            path = folder / f"{stem}.{artefact.suffix}"
            write_atomically(artefact, path)
            content = path.read_bytes()
            files[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_atomically(Json("chunk", {"files": files, **facts}), folder / "chunks" / f"{number:05d}.json")

    def write_manifest(self, step: str, fingerprint: dict[str, Any], num_chunks: int, wall_seconds: float) -> None:
        """Declare a step complete.

        Raises:
            ArtefactError: some chunks are not there.
        """
        chunks = self.complete_chunks(step)
        missing = [number for number in range(num_chunks) if number not in chunks]
        if missing:
            raise ArtefactError(f"{step}: {len(missing)} of {num_chunks} chunks are missing (first: {missing[0]})")
        manifest = {
            "step": step,
            "fingerprint": fingerprint,
            "seconds": round(sum(chunks[n]["seconds"] for n in range(num_chunks)), 2),
            "wall_seconds": wall_seconds,
            "peak_mib": max((chunks[n]["peak_mib"] for n in range(num_chunks)), default=0),
            "items": sum(chunks[n]["items"] for n in range(num_chunks)),
            "files": {name: facts for n in range(num_chunks) for name, facts in chunks[n]["files"].items()},
        }
        self.folder(step).mkdir(parents=True, exist_ok=True)  # a step with nothing to do has written nothing
        write_atomically(Json("manifest", manifest), self.folder(step) / "manifest.json")

    def supersede(self, steps: list[str]) -> None:
        """Move steps' folders to superseded/<n>/, for the first n that is free."""
        present = [step for step in steps if self.folder(step).exists()]
        if not present:
            return
        number = 0
        while (self.root / "superseded" / str(number)).exists():
            number += 1
        for step in present:
            target = self.root / "superseded" / str(number) / step
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.folder(step), target)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process, by a file created exclusively (no flock: shared file systems ignore it).

        Raises:
            ArtefactError: another live process holds it, or one on another machine; or it cannot be a folder.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise ArtefactError(f"{self.root}: cannot be made a run directory ({problem.strerror})") from None
        path = self.root / ".lock"
        mine = f"{socket.gethostname()} {os.getpid()}"
        try:
            with path.open("x") as file:
                file.write(mine)
        except FileExistsError:
            holder = path.read_text()
            host, _, pid = holder.partition(" ")
            if host != socket.gethostname() or (pid.isdigit() and _is_alive(int(pid))):
                raise ArtefactError(
                    f"{self.root}: process {pid} on {host} runs here; wait for it, or if it is gone type: rm {path}"
                ) from None
            path.write_text(mine)
        except OSError as problem:  # a full disk: no lock that names nobody stays
            path.unlink(missing_ok=True)
            raise cannot_write(path, problem) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def find_runs(folder: Path, depth: int = 4) -> list[Path]:
    """Return the run directories in a folder: the folder itself, or those within it.

    They are in order of name, but the rows of a table in the table's order, which its folder's table.json says.
    """
    if (folder / "recipe.json").is_file():
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    rows = _row_order(folder)
    children = sorted(
        (child for child in folder.iterdir() if child.is_dir()),
        key=lambda child: (rows.index(child.name) if child.name in rows else len(rows), child.name),
    )
    return [run for child in children for run in find_runs(child, depth - 1)]


def write_row_order(folder: Path, rows: list[str]) -> None:
    """Note in a table's folder in which order its rows are."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(Json("table", {"rows": rows}), folder / "table.json")


def _row_order(folder: Path) -> list[str]:
    try:
        return list(json.loads((folder / "table.json").read_text("utf-8"))["rows"])
    except (OSError, ValueError, KeyError, TypeError):  # only an order: without it, by name
        return []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
