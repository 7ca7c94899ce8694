"""Start workers on the nodes of a SLURM allocation by srun, and wait for them; as ``local.LocalExecutor`` does here.

Every worker is a job step on one node, with the whole node's cores and GPUs to see: which of them it uses is decided
here. srun passes SIGUSR1 on to its worker, but kills it at SIGTERM, so other signals go by scancel.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ltgc_local.errors import BackendError
from ltgc_local.pipeline.executors.allocation import GPU_SEPARATOR, Allocation, Node, job_number
from ltgc_local.pipeline.executors.local import GRACE_S, Ended, Order, worker_environment
from ltgc_local.pipeline.executors.machine import RENDEZVOUS
from ltgc_local.pipeline.placement import Machine

POLL_S = 0.1
COMMAND_S = 60.0  # for SLURM's commands to answer
FIRST_PORT, PORTS = 20_000, 20_000
#: Of processes that meet at a file of this machine, and talk over its loopback.
_OF_ONE_MACHINE = (RENDEZVOUS, "GLOO_SOCKET_IFNAME", "LOCAL_WORLD_SIZE")


@dataclass
class _Started:
    process: subprocess.Popen[bytes]
    node: Node
    threads: int


class SlurmExecutor:
    """Starts workers on the nodes of an allocation; a context manager, which leaves no process behind."""

    def __init__(self, allocation: Allocation) -> None:
        self._allocation = allocation
        self._tickets = 0
        self._started: dict[int, _Started] = {}
        self._meetings: dict[tuple[Path, str], tuple[str, int]] = {}  # of a training: address and port

    def start(self, order: Order) -> int:
        """Start a worker; return its ticket."""
        self._tickets += 1
        gpu = order.gpus[order.worker] if order.processes > 1 and order.gpus else next(iter(order.gpus), None)
        node = self._node_of(gpu) if gpu is not None else self._idlest()
        command = self._command(order, node, [name for name in order.gpus if self._node_of(name) == node])
        environment = worker_environment(order.threads)
        environment.pop("LTGC_LAUNCHER")  # its parent is SLURM
        environment.pop("SRUN_CPUS_PER_TASK", None)  # it would keep the other cores from the step
        environment |= {key: value for key, value in order.environment.items() if key not in _OF_ONE_MACHINE}
        if order.processes > 1:
            environment |= self._meeting(order, node, gpu)
        try:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise BackendError(
                "srun: not on this node, though it belongs to an allocation; is SLURM's bin folder on the PATH?"
            ) from None
        self._started[self._tickets] = _Started(process, node, order.threads)
        return self._tickets

    def wait(self, timeout_s: float) -> list[Ended]:
        """Return the workers that ended, as soon as one did; none after ``timeout_s``."""
        due = time.monotonic() + timeout_s
        while True:
            ended = []
            for ticket, started in list(self._started.items()):
                code = started.process.poll()
                if code is not None:
                    del self._started[ticket]
                    ended.append(Ended(ticket, 128 - code if code > 128 else code, 0.0))  # as a process's own
            if ended or time.monotonic() >= due:
                return ended
            time.sleep(POLL_S)

    @property
    def num_running(self) -> int:
        """How many workers run."""
        return len(self._started)

    def signal(self, number: int) -> None:
        """Send a signal to all workers."""
        if number == signal.SIGUSR1:
            for started in self._started.values():
                started.process.send_signal(number)
        elif steps := self._steps():
            _call("scancel", f"--signal={signal.Signals(number).name.removeprefix('SIG')}", *steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Ask what runs to stop, and wait."""
        if self._started:
            self.signal(signal.SIGTERM)
        due = time.monotonic() + GRACE_S
        while self._started and time.monotonic() < due:
            self.wait(1.0)
        if self._started:
            self.signal(signal.SIGKILL)
            self.wait(GRACE_S)

    def _command(self, order: Order, node: Node, gpus: Sequence[str]) -> list[str]:
        step = ["srun", "--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={node.name}", "--mem=0"]
        step += ["--cpu-bind=none", "--kill-on-bad-exit=0", f"--job-name={self._name(self._tickets)}", "--quiet"]
        if node.gpus:
            step.append(f"--gres=gpu:{node.gpus}")
        numbers = ",".join(name.rpartition(GPU_SEPARATOR)[2] for name in gpus)
        # srun sets this variable to all of the node's.
        only = ["env", f"CUDA_VISIBLE_DEVICES={numbers}"]
        nice = ["nice", "-n", str(order.nice)] if order.nice else []
        return [*step, *only, *nice, sys.executable, "-P", "-m", "ltgc_local.pipeline.worker", *order.arguments]

    def _meeting(self, order: Order, node: Node, gpu: str | None) -> dict[str, str]:
        """Return where the processes of a training meet: at the node of the first, as torchrun's do."""
        if order.worker == 0:
            address = socket.gethostname() if node.name == self._allocation.home else _address_of(node.name)
            digits = "".join(letter for letter in self._allocation.job if letter.isdecimal())
            self._meetings[order.root, order.step] = address, FIRST_PORT + (int(digits) + self._tickets) % PORTS
        address, port = self._meetings[order.root, order.step]
        here = [name for name in order.gpus if gpu is not None and self._node_of(name) == node]
        local_rank = here.index(gpu) if gpu is not None else 0
        return {"MASTER_ADDR": address, "MASTER_PORT": str(port), "LOCAL_RANK": str(local_rank)}

    def _idlest(self) -> Node:
        """Return the node with the most cores that no worker computes on."""
        used = {node.name: 0 for node in self._allocation.nodes}
        for started in self._started.values():
            used[started.node.name] += started.threads
        return max(self._allocation.nodes, key=lambda node: node.cores - used[node.name])

    def _node_of(self, gpu: str) -> Node:
        name = gpu.rpartition(GPU_SEPARATOR)[0]
        return next(node for node in self._allocation.nodes if node.name == name)

    def _name(self, ticket: int) -> str:
        return f"ltgc-{os.getpid()}-{ticket}"

    def _steps(self) -> list[str]:
        """Return the numbers of the workers' job steps."""
        job = os.environ.get("SLURM_JOB_ID", "")
        listed, _ = _call("squeue", "--noheader", "--steps", f"--jobs={job}", "--format=%i|%j")
        names = {self._name(ticket) for ticket in self._started}
        rows = (line.strip().split("|") for line in listed.splitlines())
        return [row[0] for row in rows if len(row) == 2 and row[1] in names]


def _address_of(node: str) -> str:
    """Return a node's address, or, where SLURM does not tell, its name, which may be SLURM's only."""
    found = re.search(r"\bNodeAddr=(\S+)", _call("scontrol", "show", "node", node)[0])
    return found[1] if found else node


def machine_of(allocation: Allocation, memory_mib: int, *, use_gpus: bool) -> Machine:
    """Return what an allocation lets us use, as if it were one machine.

    Args:
        memory_mib: that this node has, for where SLURM does not say.
        use_gpus: whether the recipe allows it.
    """
    nodes = allocation.nodes
    gpus = tuple(name for node in nodes for name in node.gpu_names) if use_gpus else ()
    return Machine(sum(node.cores for node in nodes), gpus, (allocation.memory_mib or memory_mib) * len(nodes))


def requeue_stopped_job(number: int | None, say: Callable[[str], None]) -> None:
    """Put this batch job back into the queue, if it was stopped because its time is nearly over.

    A job that is cancelled stays cancelled, and one that is preempted SLURM requeues itself: both get SIGTERM. Some
    clusters send it before the time limit, too, in place of SIGUSR1.

    Args:
        number: the signal that asked this process to stop.
        say: told what happened to the job.
    """
    job = job_number()
    if job is None or number not in (signal.SIGUSR1, signal.SIGTERM):
        return
    if number == signal.SIGTERM and not _is_nearly_over(job):
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # with which SLURM ends the job to requeue it
    say(f"job {job}: goes back into the queue")
    if problem := _call("scontrol", "requeue", job)[1]:
        say(f"job {job}: cannot be requeued: {problem}")


def _is_nearly_over(job: str) -> bool:
    """Return whether a job's time limit is less than two minutes away."""
    left = _call("squeue", "--noheader", f"--jobs={job}", "--format=%L")[0].strip()
    found = re.fullmatch(r"(?:0?([01]):)?[0-9]{1,2}", left)  # minutes and seconds
    return found is not None or left == "INVALID"  # over already


def _call(*command: str) -> tuple[str, str]:
    """Call one of SLURM's commands; return what it prints, and what went wrong or ""."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return "", str(problem)
    words = " ".join(done.stderr.split())[:300]
    return done.stdout, (words or f"exit code {done.returncode}") if done.returncode else ""
