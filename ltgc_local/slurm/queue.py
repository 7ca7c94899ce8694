"""Ask SLURM about the jobs of a run, and send, change and cancel them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ltgc_local.errors import BackendError
from ltgc_local.slurm.commands import ask, call

#: Columns of squeue: job or array, task, state, reason, nodes.
SQUEUE_FORMAT = "%F|%K|%T|%r|%N"
#: What sbatch says when SLURM is busy for the moment.
BUSY = ("socket timed out", "temporarily", "timed out", "too fast", "unable to contact")
PAUSES_S = (5.0, 15.0, 45.0, 120.0)


@dataclass(frozen=True)
class QueuedJob:
    """A job, or a task of an array, that waits or runs."""

    id: str
    task: int | None
    state: str
    reason: str
    nodes: str

    @property
    def full_id(self) -> str:
        """Its number, as SLURM's commands take it."""
        return self.id if self.task is None else f"{self.id}_{self.task}"

    @property
    def is_pending(self) -> bool:
        return self.state == "PENDING"

    @property
    def is_held_by_a_node(self) -> bool:
        """Whether SLURM keeps it back until it is released, because a node could not start it."""
        return self.is_pending and self.reason.replace("_", " ").lower().startswith("launch failed requeued held")


def read_queue(ids: Iterable[str]) -> tuple[QueuedJob, ...]:
    """Return those of the jobs that wait or run, with a line per task of an array.

    Raises:
        BackendError: SLURM does not answer.
    """
    wanted = set(ids)
    # By user, and not by number: SLURM forgets numbers, and then refuses the whole question.
    text = call(["squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--format={SQUEUE_FORMAT}"])
    return tuple(job for job in parse_queue(text) if job.id in wanted)


def parse_queue(text: str) -> tuple[QueuedJob, ...]:
    """Return the jobs that squeue lists in ``SQUEUE_FORMAT``."""
    jobs = []
    for line in text.splitlines():
        words = line.strip().split("|")
        if len(words) == 5 and words[0].isdecimal():
            jobs.append(QueuedJob(words[0], int(words[1]) if words[1].isdecimal() else None, *words[2:]))
    return tuple(jobs)


def send(
    arguments: Sequence[str], job_name: str, known: Iterable[str], pause: Callable[[float], None] = time.sleep
) -> str:
    """Send a job by sbatch, and return its number; try again while SLURM is busy.

    Args:
        job_name: of the file that is sent, by which a job is found that SLURM took without saying so.
        known: the numbers of jobs of this name that were sent before.

    Raises:
        BackendError: SLURM does not take it.
    """
    before, pauses = set(known), iter(PAUSES_S)
    while True:
        try:
            return parse_number(call(["sbatch", "--parsable", *arguments]))
        except BackendError as problem:
            wait_s = next(pauses, None)
            if wait_s is None or not any(words in str(problem).lower() for words in BUSY):
                raise
        pause(wait_s)
        listed = ask(["squeue", "--noheader", f"--user={os.getuid()}", f"--name={job_name}", "--format=%F"]) or ""
        taken = [number for number in listed.split() if number.isdecimal() and number not in before]
        if taken:
            return max(taken, key=int)


def parse_number(text: str) -> str:
    """Return the number that ``sbatch --parsable`` prints: ``123`` or ``123;cluster``.

    Raises:
        BackendError: it printed something else.
    """
    number = text.strip().split("\n")[-1].partition(";")[0].strip()
    if not re.fullmatch(r"[0-9]{1,20}", number):
        raise BackendError(f"sbatch printed {text[:200]!r}, where the number of a job was expected")
    return number


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs, or tasks of arrays."""
    for start in range(0, len(ids), 500):  # of many numbers, the line would be too long
        call(["scancel", *ids[start : start + 500]])


def release(ids: Sequence[str]) -> None:
    """Let jobs that are held start again."""
    for start in range(0, len(ids), 500):  # of many numbers, the line would be too long
        call(["scontrol", "release", ",".join(ids[start : start + 500])])


def set_dependency(job: str, ids: Sequence[str]) -> None:
    """Let a waiting job wait for the end of these jobs."""
    call(["scontrol", "update", f"JobId={job}", f"Dependency={afterany(ids)}"])


def afterany(ids: Sequence[str]) -> str:
    return "afterany:" + ":".join(ids)
