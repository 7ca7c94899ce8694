"""A SLURM allocation as its first node sees it: its nodes, and what each has for us. From the environment alone."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ltgc_local.errors import BackendError
from ltgc_local.pipeline.executors.machine import visible_gpus

MAX_NODES = 10_000
GPU_SEPARATOR = "|"  # between a node and the number of its GPU
_RANGES = re.compile(r"\[([0-9,-]+)\]")


@dataclass(frozen=True)
class Node:
    """A node of an allocation."""

    name: str
    cores: int
    gpus: int

    @property
    def gpu_names(self) -> tuple[str, ...]:
        """The names of its GPUs in the whole allocation."""
        return tuple(f"{self.name}{GPU_SEPARATOR}{number}" for number in range(self.gpus))


@dataclass(frozen=True)
class Allocation:
    """The nodes that a job has.

    Attributes:
        job: its number.
        home: the node that this process runs on.
        memory_mib: on each node; None where SLURM does not say.
    """

    job: str
    nodes: tuple[Node, ...]
    home: str
    memory_mib: int | None = None


def find_allocation(environment: Mapping[str, str] = os.environ) -> Allocation | None:
    """Return the allocation of several nodes that this process was started in; None if there is none.

    A process that srun started is one of several, and does not start others.

    Raises:
        BackendError: SLURM's variables cannot be read.
    """
    nodes, number = environment.get("SLURM_JOB_NODELIST", ""), environment.get("SLURM_JOB_ID", "")
    if not nodes or not number or environment.get("SLURM_STEP_ID", "").isdecimal():
        return None
    names = expand_nodes(nodes)
    if len(names) < 2:
        return None
    cores = expand_counts(environment.get("SLURM_JOB_CPUS_PER_NODE", ""))
    if len(cores) != len(names):
        raise BackendError(f"SLURM_JOB_CPUS_PER_NODE does not fit the nodes {nodes}; is this an allocation of SLURM's?")
    # SLURM tells the GPUs of this node alone: an allocation has the same number on each.
    gpus = _number(environment.get("SLURM_GPUS_ON_NODE", "")) or len(visible_gpus(environment))
    memory = _number(environment.get("SLURM_MEM_PER_NODE", ""))
    return Allocation(
        number,
        tuple(Node(name, count, gpus) for name, count in zip(names, cores, strict=True)),
        environment.get("SLURMD_NODENAME", names[0]),
        memory or None,
    )


def job_number(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the number of the batch job that this process is, as SLURM's commands take it; None outside of one."""
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    number = environment.get("SLURM_JOB_ID")
    return f"{array}_{task}" if number and array and task else number or None


def expand_nodes(text: str) -> list[str]:
    """Return the names in a list of nodes: ``n[1-2,05],m7`` -> n1, n2, n05, m7.

    ``scontrol show hostnames`` does the same, but is not on the nodes of every cluster.

    Raises:
        BackendError: it is no such list, or names too many.
    """
    names: list[str] = []
    parts = re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", text)
    if ",".join(parts) != text:
        raise BackendError(f"SLURM_JOB_NODELIST is not a list of nodes: {text[:200]}")
    for part in parts:
        pieces = _RANGES.split(part)  # text, ranges, text, ranges, …
        choices = [[piece] if place % 2 == 0 else list(_expand_range(piece)) for place, piece in enumerate(pieces)]
        names += ("".join(each) for each in itertools.islice(itertools.product(*choices), MAX_NODES + 1))
        if len(names) > MAX_NODES or any(set(name) & set("[] ") for name in names):
            raise BackendError(f"SLURM_JOB_NODELIST is not a list of nodes: {text[:200]}")
    return names


def _expand_range(text: str) -> Iterator[str]:
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise BackendError(f"SLURM_JOB_NODELIST is not a list of nodes: [{text[:200]}]")
        for number in range(int(first), min(int(last or first), int(first) + MAX_NODES) + 1):
            yield f"{number:0{len(first)}d}"


def expand_counts(text: str) -> list[int]:
    """Return a number per node from SLURM's short form: ``4(x2),2`` -> 4, 4, 2; [] if it is none."""
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]{1,6})(?:\(x([0-9]{1,5})\))?", part)
        if found is None:
            return []
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def _number(text: str) -> int:
    """Return the number in ``4``, ``gpu:4`` or ``a100:4``; 0 if there is none."""
    last = text.rpartition(":")[2]
    return int(last) if last.isdecimal() and len(last) < 10 else 0
