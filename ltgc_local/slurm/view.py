"""What SLURM says about a run's steps, beside the run directory, which is believed; and what its jobs printed."""

from __future__ import annotations

import re
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ltgc_local.errors import BackendError
from ltgc_local.pipeline.status import StepStatus
from ltgc_local.regular_files import open_regular
from ltgc_local.runs.disk import cannot_read
from ltgc_local.slurm import queue
from ltgc_local.slurm.commands import ask
from ltgc_local.slurm.queue import QueuedJob
from ltgc_local.slurm.records import SentJob, logs, read_sent

TAIL_BYTES = 64 * 1024
MAX_LOGS = 100_000
_LOG = re.compile(r"(?P<slug>[A-Za-z0-9_][A-Za-z0-9_.-]*)\.(?P<id>[0-9]+)(_(?P<task>[0-9]+))?\.log")
_END = re.compile(r"^\S+: .*?ended with exit code (?P<code>[0-9]+)", re.MULTILINE)
#: States of sacct in which a job did not do what it was to do.
FAILED = ("FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "CANCELLED", "BOOT_FAIL", "DEADLINE", "PREEMPTED")


@dataclass(frozen=True)
class StepJobs:
    """The jobs of a step that SLURM has in its queue.

    Attributes:
        reasons: why others wait, the most frequent first.
        held: how many of those wait until they are released, because a node could not start them.
    """

    ids: tuple[str, ...]
    running: int
    pending: int
    nodes: tuple[str, ...]
    reasons: tuple[str, ...]
    held: int = 0

    def __str__(self) -> str:
        words = [f"{self.running} running on {', '.join(self.nodes)}"] if self.running else []
        words += [f"{self.pending} waiting ({', '.join(self.reasons)})"] if self.pending else []
        return f"job {', '.join(self.ids)}: {', '.join(words)}"


def read_jobs(run: Path) -> dict[str, StepJobs] | None:
    """Return step -> its jobs in the queue; None for a run whose jobs were never sent.

    Raises:
        BackendError: SLURM does not answer.
    """
    sent = read_sent(run)
    return summarize(sent, queue.read_queue(job.id for job in sent)) if sent else None


def summarize(sent: Sequence[SentJob], queued: Iterable[QueuedJob]) -> dict[str, StepJobs]:
    """Group what is in the queue by step."""
    names, by_step = {job.id: job.name for job in sent}, defaultdict[str, list[QueuedJob]](list)
    for job in queued:
        by_step[names[job.id]].append(job)
    found = {}
    for name, jobs in by_step.items():
        waiting = [job for job in jobs if job.is_pending]
        reasons = Counter(job.reason for job in waiting)
        found[name] = StepJobs(
            tuple(dict.fromkeys(job.id for job in jobs)),
            len(jobs) - len(waiting),
            len(waiting),
            tuple(sorted({job.nodes for job in jobs if job.nodes})),
            tuple(reason for reason, _ in reasons.most_common()),
            sum(job.is_held_by_a_node for job in waiting),
        )
    return found


def jobs_of_steps(run: Path, steps: Sequence[StepStatus]) -> dict[str, str]:
    """Return step -> what SLURM says about its jobs, for people; nothing for a run whose jobs were never sent."""
    try:
        jobs = read_jobs(run)
    except BackendError as problem:
        first = next((step.name for step in steps if step.state != "complete"), None)
        return {first: f"SLURM: {problem}"} if first is not None else {}
    return {} if jobs is None else describe_jobs({step.name: step.state for step in steps}, jobs, run)


def describe_jobs(states: Mapping[str, str], jobs: Mapping[str, StepJobs], run: Path) -> dict[str, str]:
    """Return step -> what to print about its jobs, with a word where SLURM and the run directory disagree.

    Args:
        states: step -> its state, by the run directory, which is believed.
    """
    notes, is_told = {}, False
    send = f"ltgc-local slurm submit {shlex.quote(str(run))}"
    for name, state in states.items():
        found = jobs.get(name)
        if found is not None:
            more = "; the step is complete, so they end at once" if state == "complete" else ""
            if found.held:
                more += f"; {found.held} held, as a node could not start them; to release them, type: {send}"
            notes[name] = f"SLURM: {found}{more}"
        elif state != "complete" and not jobs and not is_told:
            words = f"none of this run's jobs is in the queue; to send what is left, type: {send}"
            notes[name], is_told = f"SLURM: {words}", True
    return notes


@dataclass(frozen=True)
class JobLog:
    """What a job printed.

    Attributes:
        code: the exit code that it ended with; None if it did not come to its end, or has not yet.
        state: in SLURM's words; "" if SLURM does not say.
    """

    path: Path
    name: str
    id: str
    task: int | None
    code: int | None
    state: str = ""

    @property
    def full_id(self) -> str:
        return self.id if self.task is None else f"{self.id}_{self.task}"

    def __str__(self) -> str:
        end = "ended before its end" if self.code is None else f"exit code {self.code}"
        return f"{self.name}, job {self.full_id}: {end}{f' ({self.state})' if self.state else ''}"


def find_logs(run: Path) -> list[JobLog]:
    """Return the logs of the jobs that were sent, in the order of their numbers.

    Raises:
        ArtefactError: the folder or a log cannot be read.
    """
    folder, names = logs(run), {job.id: job.name for job in read_sent(run)}
    try:
        paths = sorted(folder.iterdir())[:MAX_LOGS] if folder.is_dir() else []
    except OSError as problem:
        raise cannot_read(folder, problem) from None
    found = []
    for path in paths:
        parts = _LOG.fullmatch(path.name)
        if parts is not None:
            ends = list(_END.finditer(read_tail(path)))
            code = int(ends[-1]["code"]) if ends else None
            task = int(parts["task"]) if parts["task"] is not None else None
            found.append(JobLog(path, names.get(parts["id"], parts["slug"]), parts["id"], task, code))
    return sorted(found, key=lambda log: (int(log.id), log.task or 0))


def find_failed(run: Path) -> list[JobLog]:
    """Return the logs of jobs that are not in the queue any more and did not end with exit code 0.

    Where SLURM keeps accounts, its word for what happened is added.
    """
    sent = read_sent(run)
    try:
        active = {job.full_id for job in queue.read_queue(job.id for job in sent)} if sent else set()
    except BackendError:  # the logs alone tell
        active = set()
    failed = [log for log in find_logs(run) if log.code != 0 and log.full_id not in active]
    states = _ask_states(sent) if failed else {}
    return [replace(log, state=states.get(log.full_id, "")) for log in failed]


def read_tail(path: Path) -> str:
    """Return the end of a log.

    Raises:
        ArtefactError: it cannot be read, or is not a regular file.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError as problem:
        raise cannot_read(path, problem) from None


def _ask_states(sent: Sequence[SentJob]) -> dict[str, str]:
    """Return number -> state of the jobs that failed, from SLURM's accounts, if it keeps any."""
    ids = ",".join(job.id for job in sent[-1000:])
    # Without a start, sacct forgets what began before midnight.
    since = f"--starttime={sent[-1000:][0].sent[:10]}" if sent else f"--starttime={time.strftime('%Y-%m-%d')}"
    columns = ["--noheader", "--parsable2", "--allocations", "--format=JobID,State"]
    return parse_states(ask(["sacct", f"--jobs={ids}", since, *columns]) or "")


def parse_states(text: str) -> dict[str, str]:
    """Return number -> state of those jobs that failed, from sacct's lines."""
    rows = (line.split("|") for line in text.splitlines() if line.count("|") == 1)
    return {number: state for number, state in rows if state.split(" ")[0] in FAILED}
