"""The site profile: what a cluster calls its partitions, and how its jobs begin. One small file per cluster.

What becomes part of an ``#SBATCH`` line or of a shell word is limited to characters that mean nothing else there. Only
``environment.setup`` is shell code, as the lines of a user's own ``.bashrc`` are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from ltgc_local.recipe.block import Block, Conflict, Name


def _text(pattern: str, expected: str, max_length: int = 200) -> Any:
    return Field(pattern=pattern, max_length=max_length, json_schema_extra={"expected": expected})


def _list(expected: str) -> Any:
    return Field(max_length=100, json_schema_extra={"expected": f"a list of {expected}"})


_WORD = _text(r"^[A-Za-z0-9][A-Za-z0-9_.,@:/+-]*$", "a name as SLURM has it, without blanks")
Word = Annotated[str, _WORD]
MaybeWord = Annotated[str | None, _WORD]
Constraint = Annotated[
    str | None,
    _text(r"^[A-Za-z0-9\[(][A-Za-z0-9_.,@:&|*!()\[\]+-]*$", "features of nodes, such as a100 or a100|h100"),
]
_TIME = r"^([0-9]{1,3}-[0-9]{1,2}(:[0-9]{2}){0,2}|[0-9]{1,3}(:[0-9]{2}){2})$"
Time = Annotated[str, _text(_TIME, "days, hours, minutes and seconds, such as 04:00:00 or 2-00:00:00")]
Memory = Annotated[str | None, _text(r"^[0-9]+[KMGT]?$", "a size such as 64G, or 0 for all of a node's")]
Option = Annotated[str, Field(pattern=r"^--[a-z][a-z0-9-]*(=[A-Za-z0-9_.,@:/+%=\[\]-]+)?$", max_length=200)]
Options = Annotated[list[Option], _list("options of sbatch without blanks, such as [--exclusive, --exclude=n3]")]
#: A folder, possibly on each node: variables of the job are filled in there.
Folder = Annotated[str, _text(r"^[A-Za-z0-9_./~${}:+-]+$", "a folder, such as ${SLURM_TMPDIR:-/tmp}", 1000)]
_PATH = _text(r"^[^\x00-\x1f\x7f]+$", "a path", 1000)
Line = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$", max_length=2000)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]


class Jobs(Block):
    """What one process of a kind of steps gets."""

    partition: MaybeWord = None
    """Partition; null takes the cluster's default."""
    time: Time = "04:00:00"
    """Time limit of a job. Work that is not done by then goes on in the next: jobs requeue themselves."""
    cpus: int = Field(default=4, ge=1, le=1024)
    """CPU cores of each process."""
    memory: Memory = "16G"
    """Memory of each process; null takes the partition's default."""
    constraint: Constraint = None
    """Features that a node must have."""
    options: Options = []
    """More options of sbatch for these jobs."""


class CpuJobs(Jobs):
    """Jobs of steps that need no GPU: all of them, if the recipe's models.device is cpu."""

    workers: int = Field(default=4, ge=1, le=10_000)
    """Most tasks of a step's array. They share its chunks, so those that find nothing to do end at once."""


class JobsWithGpus(Jobs):
    """What one process that needs GPUs gets."""

    cpus: int = Field(default=8, ge=1, le=1024)
    memory: Memory = "64G"
    gpu: MaybeWord = None
    """Type of GPU to ask for, such as a100; null takes any."""
    gpus_option: Literal["gres", "gpus-per-node"] = "gres"
    """How this cluster wants GPUs asked for: ``--gres=gpu:1`` or ``--gpus-per-node=1``."""


class GpuJobs(JobsWithGpus):
    """Jobs of steps that need a GPU and share chunks: describing, extending, drawing, assessing."""

    workers: int = Field(default=8, ge=1, le=10_000)
    """Most tasks of a step's array, each with a copy of the model on GPUs of its own."""


class TrainingJobs(JobsWithGpus):
    """Jobs of trainings: as many processes as the recipe asks for, each with a GPU, on as many nodes as they need."""

    time: Time = "12:00:00"
    """Time limit of a job. A training writes a checkpoint before it, and goes on from there."""
    per_node: int = Field(default=4, ge=1, le=64)
    """GPUs of a node, or, on CPUs, processes that fit on one."""


class Environment(Block):
    """How a job finds the program and its libraries."""

    modules: Annotated[list[Word], _list("modules, such as [cuda/12.4]")] = []
    """Environment modules to load, after ``module purge``."""
    setup: Annotated[list[Line], _list("lines of shell code")] = []
    """Lines of shell code that every job runs first, such as ``source ~/ltgc/bin/activate``. Copied as they are."""
    variables: Annotated[
        dict[Variable, Line],
        Field(max_length=100, json_schema_extra={"expected": "a block of variables, such as NCCL_SOCKET_IFNAME: ib0"}),
    ] = {}
    """Environment variables of every job."""
    program: Annotated[str, _PATH] = "ltgc-local"
    """The program: a name on the PATH, or a path."""
    container: Annotated[str | None, _PATH] = None
    """Apptainer image that holds the program; null runs it directly."""
    apptainer_options: Annotated[list[Line], _list("words, such as [--nv, --bind=/data]")] = ["--nv"]
    """Options of ``apptainer exec``."""
    scratch: Folder = "${TMPDIR:-/tmp}"
    """Folder on the node's own disk, for temporary files and compiled code."""

    def conflicts(self) -> Iterator[Conflict]:
        default = type(self).model_fields["apptainer_options"].default
        if self.container is None and self.apptainer_options != default:
            yield "apptainer_options", "has no effect without a container; remove it"


class Limits(Block):
    """What the cluster allows, and how careful to be with it."""

    max_array_size: int = Field(default=1001, ge=2, le=4_000_001)
    """SLURM's MaxArraySize: an array's largest index is one less. Larger arrays are split."""
    max_jobs: int | None = Field(default=None, ge=1, le=10_000_000)
    """Most jobs that a user may have in the queue (MaxSubmitJobs), counting every task; null: any number."""
    signal_s: int = Field(default=180, ge=30, le=3600)
    """A job is asked to stop this long before its time limit: longer than the longest chunk takes."""
    requeues: int = Field(default=20, ge=0, le=1000)
    """How often a job may requeue itself."""
    inputs_wait_s: int = Field(default=120, ge=0, le=3600)
    """How long a job waits for files of earlier steps, which network file systems show late, before it gives up."""
    stagger_s: int = Field(default=2, ge=0, le=600)
    """Seconds between the starts of an array's tasks, so that they do not all read the model at once."""


class Profile(Block):
    """A cluster."""

    name: Name = Field(default="site")
    """Name of the cluster, for the comments in the files."""
    account: MaybeWord = None
    """Account that is charged; null takes the user's default."""
    qos: MaybeWord = None
    """Quality of service; null takes the default."""
    options: Options = []
    """More options of sbatch for all jobs."""
    cpu: CpuJobs = CpuJobs()
    gpu: GpuJobs = GpuJobs()
    training: TrainingJobs = TrainingJobs()
    environment: Environment = Environment()
    limits: Limits = Limits()

    def conflicts(self) -> Iterator[Conflict]:
        for name, jobs in {"cpu": self.cpu, "gpu": self.gpu, "training": self.training}.items():
            if seconds_of(jobs.time) <= self.limits.signal_s:
                yield f"{name}.time", f"{jobs.time} is not longer than limits.signal_s, {self.limits.signal_s} s"


def seconds_of(time: str) -> int:
    """Return a time limit in seconds: D-HH[:MM[:SS]] or HH:MM:SS."""
    days, _, clock = time.rpartition("-")
    hours, minutes, seconds = (*map(int, clock.split(":")), 0, 0)[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def mib_of(memory: str) -> int:
    """Return a size in MiB, as SLURM reads it: without a unit it is MiB already."""
    kib = {"K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
    return int(memory) if memory.isdecimal() else int(memory[:-1]) * kib[memory[-1]] // 1024
