"""Send the jobs of a run to SLURM, change how many share a step, cancel them. Every number is written down at once."""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from ltgc_local.errors import ArtefactError, BackendError, RecipeError
from ltgc_local.pipeline.plan import build_plan, match_steps
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.provenance import read_run_recipe
from ltgc_local.slurm import queue
from ltgc_local.slurm.chain import PREPARE, Job, split_tasks
from ltgc_local.slurm.queue import QueuedJob
from ltgc_local.slurm.records import FOLDER, SentJob, logs, read_chain, read_sent, write_sent

Log = Callable[[str], None]


def submit(run: Path, log: Log, to_step: str | None = None) -> int:
    """Send the jobs of every step that is not complete and has none in the queue; return how many were sent.

    Jobs of these steps that SLURM holds because a node could not start them are released.

    Args:
        to_step: send only this step, or all under its name, and what it reads, directly or not.

    Raises:
        LtgcError: the chain is not rendered, or SLURM does not take a job; what was sent is written down.
    """
    chain = read_chain(run).jobs
    sending = _Sending(run, log)
    wanted = {job.name for job in chain} if to_step is None else _with_inputs(chain, _match(run, to_step))
    sending.release([job.name for job in chain if job.name in wanted])
    missing = [job for job in chain if job.name in wanted - {PREPARE} and not _is_complete(run, job.name)]
    unsent = [job for job in missing if not sending.active[job.name]]
    # While jobs of the run work on it, it is prepared, and nobody else may prepare it.
    first = [] if any(sending.active.values()) else chain[:1]
    for job in unsent and [*first, *unsent]:
        sending.send(job, job.arrays)
    return sending.number


def resize(run: Path, step: str, tasks: int, log: Log) -> str:
    """Let a step have so many tasks from now on: send more, or cancel some, waiting ones first.

    Returns:
        What was done, in words.

    Raises:
        LtgcError: the step is no array, or SLURM refuses.
    """
    chain = read_chain(run)
    job = chain.find(step)
    if job.tasks is None:
        raise RecipeError(f"{step}: is one job, which others cannot share; only arrays can be resized")
    if _is_complete(run, step):
        return f"{step}: complete; nothing to resize"
    sending = _Sending(run, log)
    now = sending.active[step]
    if tasks > len(now):
        sending.send(job, split_tasks(tasks - len(now), chain.max_array_size))
        _wait_for_all(chain.jobs, job, sending)
        return f"{step}: {tasks - len(now)} more tasks, now {tasks}"
    # The ones that run longest stay: they have loaded their models.
    spare = sorted(now, key=lambda each: (each.is_pending, int(each.id), each.task or 0))[tasks:]
    if not spare:
        return f"{step}: has {len(now)} tasks already"
    queue.cancel([each.full_id for each in spare])
    return f"{step}: cancelled {len(spare)} tasks, now {tasks}; they give back what they had in hand"


def cancel(run: Path, step: str | None) -> list[str]:
    """Cancel the run's jobs, or those of a step; return the numbers of those that were in the queue.

    Raises:
        LtgcError: there is no such step, or SLURM does not answer.
    """
    sent = read_sent(run)
    names = {job.name for job in sent} if step is None else {*_match(run, step)}
    ids = [job.id for job in sent if job.name in names]
    found = list(dict.fromkeys(job.id for job in queue.read_queue(ids))) if ids else []
    if found:
        queue.cancel(found)
    return found


class _Sending:
    """Sends jobs of a run, and knows those that are in the queue already."""

    def __init__(self, run: Path, log: Log) -> None:
        self.run, self.log, self.number = run, log, 0
        self.sent = list(read_sent(run))
        names = {job.id: job.name for job in self.sent}
        self.active: dict[str, list[QueuedJob]] = defaultdict(list)
        for found in queue.read_queue(names):
            self.active[names[found.id]].append(found)
        self._ids = {name: list(dict.fromkeys(each.id for each in jobs)) for name, jobs in self.active.items()}
        self._job_name = read_run_recipe(run).name

    def ids(self, name: str) -> list[str]:
        """Return the numbers of a step's jobs in the queue, including those that were just sent."""
        return self._ids.get(name, [])

    def release(self, names: Sequence[str]) -> None:
        """Release those jobs of these steps that SLURM holds because a node could not start them."""
        for name in names:
            held = [each.full_id for each in self.active[name] if each.is_held_by_a_node]
            try:
                queue.release(held)
            except BackendError as problem:  # such as one that ended meanwhile; what follows is sent anyway
                self.log(f"{name}: {problem}")
                continue
            if held:
                self.log(f"{name}: released {', '.join(held)}, which a node could not start")

    def send(self, job: Job, arrays: Sequence[int]) -> None:
        """Send a job, in as many arrays as it takes, to wait for the jobs of the steps that it reads."""
        logs(self.run).mkdir(parents=True, exist_ok=True)
        file = self.run / FOLDER / job.file
        if not file.is_file():
            raise ArtefactError(f"{file}: not there; type: ltgc-local slurm render {shlex.quote(str(self.run))}")
        after = [number for name in (*job.after, PREPARE) for number in self.ids(name) if name != job.name]
        for size in arrays or (None,):
            options = [f"--dependency={queue.afterany(after)}"] if after else []
            options += [f"--array=0-{size - 1}"] if size is not None else []
            known = [each.id for each in self.sent if each.name == job.name]
            number = queue.send([*options, str(file)], f"{self._job_name}-{job.slug}", known)
            now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            self.sent.append(SentJob(id=number, name=job.name, tasks=size, sent=now))
            write_sent(self.run, self.sent)
            self._ids.setdefault(job.name, []).append(number)
            self.number += 1
            self.log(f"{job.name}: job {number}" + (f", {size} tasks" if size is not None else ""))


def _wait_for_all(chain: Sequence[Job], job: Job, sending: _Sending) -> None:
    """Let the jobs that wait for a step wait for its new tasks, too."""
    for other in chain:
        if job.name not in other.after:
            continue
        after = [number for name in other.after for number in sending.ids(name)]
        for number in dict.fromkeys(each.id for each in sending.active[other.name] if each.is_pending):
            queue.set_dependency(number, after)


def _with_inputs(chain: Sequence[Job], names: Sequence[str]) -> set[str]:
    """Return these steps and all that they wait for."""
    wanted = set(names)
    for job in reversed(chain):
        if job.name in wanted:
            wanted.update(job.after)
    return wanted


def _is_complete(run: Path, step: str) -> bool:
    return RunDirectory(run).manifest(step) is not None


def _match(run: Path, step: str) -> list[str]:
    return [PREPARE] if step == PREPARE else match_steps(build_plan(read_run_recipe(run)), step)
