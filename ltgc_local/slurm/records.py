"""What a run directory keeps about SLURM.

<run>/slurm/NN-<step>.sbatch    the jobs, rendered; submit.sh sends them by hand
<run>/slurm/chain.json          which jobs there are, and which wait for which
<run>/slurm/jobs.json           which were sent, under which numbers
<run>/slurm/logs/               <step>.<job>.log or <step>.<job>_<task>.log: what each printed

They are about where a run is made, not part of its results.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ltgc_local.errors import ArtefactError, RecipeError
from ltgc_local.recipe.messages import did_you_mean
from ltgc_local.runs.disk import make_folder
from ltgc_local.runs.files import Text, write_atomically
from ltgc_local.runs.schemas import RunFile
from ltgc_local.runs.sealed import read_sealed, write_sealed
from ltgc_local.slurm.chain import Job, Kind

FOLDER = "slurm"
MAX_ENTRIES = 100_000
StepName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=200)]
Number = Annotated[int, Field(ge=0, le=10_000_000)]
JobId = Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]


class ChainJob(RunFile):
    """A job of ``chain.json``; ``slurm.chain.Job`` has the meaning of each key."""

    name: StepName
    number: Number
    kind: Kind
    after: list[StepName]
    tasks: Number | None
    arrays: list[Number]
    nodes: Number
    per_node: Number
    gpus: Number


class ChainFile(RunFile):
    """``chain.json``."""

    jobs: Annotated[list[ChainJob], Field(min_length=1, max_length=MAX_ENTRIES)]
    max_array_size: Annotated[int, Field(ge=2, le=10_000_000)]
    command: Annotated[str, Field(max_length=100_000)]


class SentJob(RunFile):
    """A job, or an array, that was sent: its number, which job of the chain it is, and its tasks."""

    id: JobId
    name: StepName
    tasks: Number | None
    sent: Annotated[str, Field(max_length=40)]


class JobsFile(RunFile):
    """``jobs.json``, in the order in which they were sent."""

    jobs: Annotated[list[SentJob], Field(max_length=MAX_ENTRIES)]


def logs(run: Path) -> Path:
    """Return the folder of the jobs' logs."""
    return run / FOLDER / "logs"


@dataclass(frozen=True)
class Chain:
    """A rendered chain: its jobs, the largest array that the cluster takes, and the command that runs the recipe."""

    jobs: tuple[Job, ...]
    max_array_size: int
    command: str

    def find(self, name: str) -> Job:
        """Return a job by its name.

        Raises:
            RecipeError: there is none.
        """
        names = [job.name for job in self.jobs]
        if name not in names:
            raise RecipeError(f"{name}: no such step{did_you_mean(name, names) or '; steps: ' + ', '.join(names)}")
        return self.jobs[names.index(name)]


def write_chain(run: Path, folder: Path | None, chain: Chain, texts: Mapping[str, str]) -> None:
    """Write the files of a chain to ``<run>/slurm``, or only the texts to another folder."""
    target = folder or run / FOLDER
    make_folder(target)
    for name, text in texts.items():
        stem, _, suffix = name.rpartition(".")
        write_atomically(Text(stem, text, suffix), target / name)
    (target / "submit.sh").chmod(0o755)
    if folder is None:
        make_folder(logs(run))  # without it, SLURM starts no job
        values = [{**asdict(job), "after": list(job.after), "arrays": list(job.arrays)} for job in chain.jobs]
        facts = {"max_array_size": chain.max_array_size, "command": chain.command}
        write_sealed(target / "chain.json", {"jobs": values, **facts})


def read_chain(run: Path) -> Chain:
    """Return a run's chain.

    Raises:
        ArtefactError: it is not rendered, or damaged.
    """
    render = f"type: ltgc-local slurm render {shlex.quote(str(run))}"
    found = read_sealed(run / FOLDER / "chain.json", ChainFile, render)
    if found is None:
        raise ArtefactError(f"{run}: has no sbatch files yet; {render}")
    jobs = [{**job.model_dump(), "after": tuple(job.after), "arrays": tuple(job.arrays)} for job in found.jobs]
    return Chain(tuple(Job(**values) for values in jobs), found.max_array_size, found.command)


def read_sent(run: Path) -> tuple[SentJob, ...]:
    """Return the jobs that were sent, in order; none if none were."""
    path = run / FOLDER / "jobs.json"
    mend = (
        f"if none of them is in the queue, remove the file, and type: ltgc-local slurm submit {shlex.quote(str(run))}"
    )
    found = read_sealed(path, JobsFile, mend)
    return tuple(found.jobs) if found is not None else ()


def write_sent(run: Path, jobs: Sequence[SentJob]) -> None:
    """Write down which jobs were sent."""
    write_sealed(run / FOLDER / "jobs.json", {"jobs": [job.model_dump() for job in jobs]})
