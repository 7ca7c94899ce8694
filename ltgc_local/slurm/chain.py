"""A plan and a site profile -> the chain of jobs that runs it. Pure: no disk, no SLURM.

A step becomes one job, or an array whose tasks share its chunks. Jobs wait for the end of those whose files they read,
however these ended (``afterany``); what they made is then looked for in the run directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ltgc_local.errors import RecipeError
from ltgc_local.methods.base import Step
from ltgc_local.model_store.cards import Role
from ltgc_local.slurm.profile import Profile

Kind = Literal["cpu", "gpu", "training"]
PREPARE = "prepare"  # the first job: it checks data and models, and writes what the others need


@dataclass(frozen=True)
class Job:
    """One job of a chain.

    Attributes:
        name: of its step, or ``prepare``.
        kind: the block of the profile that says what each of its processes gets.
        tasks: of its array; None for a job that is no array.
        arrays: the sizes of the arrays that these tasks are sent as, because the cluster limits them.
        nodes, per_node: of a training, and how many processes each node has.
        gpus: on each node.
        after: the jobs that it waits for.
    """

    name: str
    number: int
    kind: Kind
    after: tuple[str, ...] = ()
    tasks: int | None = None
    arrays: tuple[int, ...] = ()
    nodes: int = 1
    per_node: int = 1
    gpus: int = 0

    @property
    def file(self) -> str:
        """The name of its sbatch file."""
        return f"{self.number:02d}-{self.slug}.sbatch"

    @property
    def slug(self) -> str:
        """Its name without slashes."""
        return self.name.replace("/", "-")


def build_chain(
    steps: Sequence[Step],
    profile: Profile,
    *,
    on_cpu: bool,
    training_processes: int = 1,
    gpus_of: Mapping[Role, int] | None = None,
    most_workers: int | None = None,
) -> tuple[Job, ...]:
    """Return the jobs in the order in which they are sent.

    Args:
        on_cpu: whether the recipe runs its models on CPUs.
        training_processes: how many share each training.
        gpus_of: role -> GPUs that a copy of its model needs, where that is more than one.
        most_workers: of any step; None for as many as the profile has.

    Raises:
        RecipeError: the chain has more jobs than the cluster lets a user submit.
    """
    jobs = [Job(PREPARE, 0, "cpu")]
    needed = _reads_without_detours(steps)
    for number, step in enumerate(steps, start=1):
        job = Job(step.name, number, _kind(step, on_cpu), needed[step.name] or (PREPARE,))
        if step.stage.parallel == "distributed":
            job = _training(job, training_processes, profile, on_cpu)
        elif step.stage.parallel == "chunks":
            workers = profile.cpu.workers if job.kind == "cpu" else profile.gpu.workers
            role = step.model_role
            gpus = (gpus_of or {}).get(role, 1) if role is not None else 1
            job = replace(job, tasks=min(workers, most_workers or workers), gpus=gpus if job.kind == "gpu" else 0)
        elif job.kind == "gpu":
            job = replace(job, gpus=1)
        jobs.append(job)
    return tuple(_split(job, profile.limits.max_array_size) for job in _fit(jobs, profile.limits.max_jobs))


def needs_device(step: Step) -> bool:
    """Return whether a step computes where the models do: with one of them, or with networks of its own."""
    roles = step.model_role is not None or step.co_resident is not None
    return roles or step.stage.parallel == "distributed" or "models.device" in step.settings


def _kind(step: Step, on_cpu: bool) -> Kind:
    if on_cpu or not needs_device(step):
        return "cpu"
    return "training" if step.stage.parallel == "distributed" else "gpu"


def _training(job: Job, processes: int, profile: Profile, on_cpu: bool) -> Job:
    nodes = -(-processes // profile.training.per_node)
    if processes % nodes:
        raise RecipeError(
            f"{processes} processes of {job.name} cannot be shared evenly by {nodes} nodes of "
            f"{profile.training.per_node} (training.per_node of the site profile); change one of the two"
        )
    per_node = processes // nodes
    return replace(job, nodes=nodes, per_node=per_node, gpus=0 if on_cpu else per_node)


def _reads_without_detours(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """Return which steps each waits for: those that it reads, without those that one of these waits for anyway."""
    before: dict[str, set[str]] = {}
    for step in steps:
        before[step.name] = set(step.reads).union(*(before[name] for name in step.reads))
    direct = {step.name: set(step.reads) - set().union(*(before[name] for name in step.reads)) for step in steps}
    return {step.name: tuple(name for name in step.reads if name in direct[step.name]) for step in steps}


def _fit(jobs: Sequence[Job], limit: int | None) -> Sequence[Job]:
    """Make arrays smaller, the largest first, until the whole chain may be submitted at once."""
    if limit is None:
        return jobs
    if limit < len(jobs):
        raise RecipeError(
            f"the chain has {len(jobs)} jobs, and limits.max_jobs of the site profile is {limit}; run it in one "
            "allocation instead: sbatch or salloc, and in it: ltgc-local run"
        )
    most = max((job.tasks or 1) for job in jobs)
    while sum(min(job.tasks or 1, most) for job in jobs) > limit:
        most -= 1
    return [job if job.tasks is None else replace(job, tasks=min(job.tasks, most)) for job in jobs]


def _split(job: Job, max_array_size: int) -> Job:
    if job.tasks is None:
        return job
    return replace(job, arrays=split_tasks(job.tasks, max_array_size))


def split_tasks(tasks: int, max_array_size: int) -> tuple[int, ...]:
    """Return the sizes of the arrays that make up so many tasks: an array has at most ``max_array_size``."""
    whole, rest = divmod(tasks, max_array_size)
    return (max_array_size,) * whole + ((rest,) if rest else ())
