"""Which workers start now: pure, from what is ready, what runs and what the machine has.

The step with the longest way to the end of its run goes first and gets as many workers as it can use. On a CPU, steps
that have less to go start too, at a lower priority of the system's: they get what the first ones leave over, so no core
is idle and nothing important waits. A GPU is one worker's alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Generic, TypeVar

from ltgc_local.methods.base import Step
from ltgc_local.pipeline.needs import Needs

Key = TypeVar("Key", bound=Hashable)

OVERCOMMITMENT = 2  # threads per core, counting those of low priority
NICE_PER_STEP, MAX_NICE = 2, 10  # beyond, a step could stand still beside another program


@dataclass(frozen=True)
class Machine:
    """What this machine lets us use: cores, GPUs by their names, and memory."""

    cores: int
    gpus: tuple[str, ...]
    memory_mib: int

    def has_room(self, workers: Sequence[Worker[Any]]) -> bool:
        """Return whether a worker more could compute at once: a GPU is idle, or without GPUs a core."""
        if self.gpus:
            return sum(len(worker.gpus) for worker in workers) < len(self.gpus)
        return _threads(workers) < self.cores


@dataclass(frozen=True)
class Worker(Generic[Key]):
    """A worker that runs or is to start.

    Attributes:
        key: its step's.
        height: how many steps follow one another from its step to the end.
        gpus: the names of its own.
    """

    key: Key
    needs: Needs
    height: int
    gpus: tuple[str, ...] = ()
    nice: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Candidate(Generic[Key]):
    """A step that could use more workers: one if it has none, else as many as it has chunks that nobody makes."""

    key: Key
    needs: Needs
    height: int
    wanted: int = 1


def place(machine: Machine, running: Sequence[Worker[Key]], candidates: Iterable[Candidate[Key]]) -> list[Worker[Key]]:
    """Return the workers to start now; those of a training stand together.

    If nothing runs, the first candidate starts whatever it needs in memory: trying is better than giving up.
    """
    workers = list(running)
    new: list[Worker[Key]] = []
    for candidate in sorted(candidates, key=lambda each: -each.height):  # stable: in the order of the plan and the runs
        for _ in range(candidate.wanted):
            group = _fit(machine, workers, candidate)
            if not group:
                break
            workers += group
            new += group
    top = max((worker.height for worker in workers), default=0)
    return [
        Worker(each.key, each.needs, each.height, each.gpus, min(MAX_NICE, NICE_PER_STEP * (top - each.height)))
        for each in new
    ]


def _fit(machine: Machine, workers: Sequence[Worker[Key]], candidate: Candidate[Key]) -> list[Worker[Key]]:
    """Return the workers of one more process, or of a training's processes; none where they do not fit."""
    needs, number = candidate.needs, candidate.needs.processes
    own = sum(worker.key == candidate.key for worker in workers)
    if needs.most is not None and number == 1 and own >= needs.most:
        return []
    used = {gpu for worker in workers for gpu in worker.gpus}
    free = [gpu for gpu in machine.gpus if gpu not in used]
    memory = number * needs.memory_mib + sum(worker.needs.memory_mib for worker in workers)
    own_gpus = _groups(free, needs.gpus) if needs.gpus else [()] * number
    if number > len(own_gpus) or (workers and memory > machine.memory_mib):
        return []
    if not needs.gpus and workers:
        on_cpu = [worker for worker in workers if not worker.gpus]
        threads = number * needs.threads
        ahead = sum(worker.needs.threads for worker in on_cpu if worker.height >= candidate.height)
        is_background = not own and threads + _threads(on_cpu) <= OVERCOMMITMENT * machine.cores
        if ahead + threads > machine.cores and not is_background:
            return []
    return [Worker(candidate.key, needs, candidate.height, gpus) for gpus in own_gpus[:number]]


def _groups(gpus: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Return groups of so many GPUs, each of one node: of several nodes, ``node|number`` is a GPU's name."""
    nodes = [tuple(group) for _, group in groupby(gpus, key=lambda gpu: gpu.rpartition("|")[0])]
    return [node[start : start + size] for node in nodes for start in range(0, len(node) - size + 1, size)]


def _threads(workers: Iterable[Worker[Key]]) -> int:
    return sum(worker.needs.threads for worker in workers)


def heights(steps: Sequence[Step]) -> Mapping[str, int]:
    """Return how many steps follow one another from each step to the end, itself included."""
    found: dict[str, int] = {}
    for step in reversed(steps):
        found[step.name] = 1 + max((found[other.name] for other in steps if step.name in other.reads), default=0)
    return found
