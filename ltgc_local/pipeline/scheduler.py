"""Run recipes: steps whose inputs are complete run side by side, as the machine allows.

Complete steps are skipped, missing ones are run, and ones that were made with other settings are an error.
"""

from __future__ import annotations

import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ltgc_local import stopping
from ltgc_local.errors import BackendError
from ltgc_local.methods.base import Step
from ltgc_local.pipeline.executors.allocation import find_allocation
from ltgc_local.pipeline.executors.local import Ended, LocalExecutor, Order, explain
from ltgc_local.pipeline.executors.machine import this_machine, training_environments, visible_gpus
from ltgc_local.pipeline.executors.slurm import SlurmExecutor, machine_of, requeue_stopped_job
from ltgc_local.pipeline.needs import modules_of
from ltgc_local.pipeline.ongoing import OngoingRun, Say
from ltgc_local.pipeline.placement import Candidate, Machine, Worker, place
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.preparation import Request
from ltgc_local.pipeline.status import describe_progress, read_progress
from ltgc_local.reporting.render import duration
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.progress import is_terminal
from ltgc_local.runs.provenance import read_run_recipe
from ltgc_local.runs.timeline import note_worker

TICK_S = 0.2
HEARTBEAT_S = 60.0

Key = tuple[Path, str]  # a run and its step


def run_pipeline(request: Request, log: Say) -> None:
    """Run a recipe's steps.

    Raises:
        LtgcError: of the kind that says what went wrong; complete steps are kept.
        Stopped: a signal asked for it; chunks and checkpoints are kept too.
    """
    run_all([(request, log)])


def run_all(requests: Sequence[tuple[Request, Say]], machine: Machine | None = None) -> None:
    """Run several recipes. Steps of later ones start while the earlier ones leave room.

    Raises:
        LtgcError: of the first step that fails; complete steps are kept.
        Stopped: a signal asked for it; chunks and checkpoints are kept too.
    """
    first, allocation = requests[0][0].recipe, find_allocation()
    use_gpus = first.models.device != "cpu"
    machine = machine or this_machine(visible_gpus() if use_gpus else [])
    executor: LocalExecutor | SlurmExecutor
    if allocation is not None:
        machine = machine_of(allocation, machine.memory_mib, use_gpus=use_gpus)
        executor = SlurmExecutor(allocation)
        requests[0][1](f"on {len(allocation.nodes)} nodes: {', '.join(node.name for node in allocation.nodes)}")
    else:
        out = requests[0][0].out  # what is complete there needs no libraries
        steps = [step for step in build_plan(first) if not (out / step.name / "manifest.json").exists()]
        steps = [] if machine.gpus else steps
        imports = dict.fromkeys(module for step in steps for module in modules_of(step, first))
        executor = LocalExecutor(tuple(imports), first.models.threads)
    try:
        with ExitStack() as runs, executor:
            _Scheduler(executor, machine, runs, requests).run()
    except stopping.Stopped:
        requeue_stopped_job(stopping.first_signal(), requests[0][1])
        raise


@dataclass(frozen=True)
class _Running:
    """A worker that runs."""

    run: OngoingRun
    step: Step
    worker: Worker[Key]
    number: int
    start: float


class _Scheduler:
    """The loop: settle what needs no work, start what fits, wait for what ends."""

    def __init__(
        self,
        executor: LocalExecutor | SlurmExecutor,
        machine: Machine,
        runs: ExitStack,
        requests: Sequence[tuple[Request, Say]],
    ) -> None:
        self._executor, self._machine, self._runs, self._waiting = executor, machine, runs, list(requests)
        self._open: list[OngoingRun] = []
        self._ready: list[tuple[Candidate[Key], OngoingRun, Step]] | None = None  # None: to be looked up again
        self._running: dict[int, _Running] = {}  # by ticket
        self._started: Counter[Key] = Counter()  # how many workers a step has had
        self._interrupted: set[Key] = set()
        self._is_told = False  # the workers were asked to stop
        self._beaten = time.monotonic()

    def run(self) -> None:
        while self._waiting or self._open:
            if stopping.is_asked():
                self._stop()
            else:
                self._start()
            for ended in self._executor.wait(TICK_S) if self._running else ():
                self._end(ended)
            self._beat()
            for run in [each for each in self._open if each.is_done]:
                self._open.remove(run)
                run.close()

    def _start(self) -> None:
        """Start what fits; if all that is ready did and room is left, look at the next run."""
        while True:
            candidates = self._candidates()
            workers = [running.worker for running in self._running.values()]
            placed = place(self._machine, workers, [candidate for candidate, _, _ in candidates])
            for candidate, run, step in candidates:
                if new := [worker for worker in placed if worker.key == candidate.key]:
                    self._start_workers(run, step, new)
            is_all = all(any(worker.key == candidate.key for worker in placed) for candidate, _, _ in candidates)
            if not self._running and candidates:
                needs = candidates[0][0].needs
                raise BackendError(
                    f"step {candidates[0][2].name}: needs {needs.processes * needs.gpus} GPUs, and "
                    f"{len(self._machine.gpus)} are visible; --set models.training_processes=1 or "
                    "models.tensor_parallel=1 lowers the need"
                )
            if not (is_all and self._waiting and self._machine.has_room([r.worker for r in self._running.values()])):
                return
            request, say = self._waiting.pop(0)
            run = OngoingRun(request, say, has_gpus=bool(self._machine.gpus))
            self._open.append(self._runs.enter_context(run))
            self._ready = None

    def _candidates(self) -> list[tuple[Candidate[Key], OngoingRun, Step]]:
        """Return the steps that could use a worker: those that can start, and those with chunks that nobody makes."""
        found = []
        of_step = Counter(each.worker.key for each in self._running.values())
        for each in {each.worker.key: each for each in self._running.values()}.values():
            key, needs, height = each.worker.key, each.worker.needs, each.worker.height
            if (wanted := (each.run.chunks_left(each.step) or 0) - of_step[key]) > 0:
                found.append((Candidate(key, needs, height, wanted), each.run, each.step))
        return found + self._list_ready()

    def _list_ready(self) -> list[tuple[Candidate[Key], OngoingRun, Step]]:
        """Return the steps that can start; other runs are searched for them only when something has changed."""
        if self._ready is None:
            self._ready = []
            in_work = {each.run.identity(each.step) for each in self._running.values()}
            for run in self._open:
                for step in run.ready(in_work):
                    in_work.add(run.identity(step))
                    candidate = Candidate((run.out, step.name), run.needs(step), run.height(step))
                    self._ready.append((candidate, run, step))
        return self._ready

    def _start_workers(self, run: OngoingRun, step: Step, workers: Sequence[Worker[Key]]) -> None:
        """Start workers of a step, or all the processes of a training."""
        key, processes = workers[0].key, workers[0].needs.processes
        if not any(each.worker.key == key for each in self._running.values()):
            run.begin(step)
            self._started[key] = 0
            self._ready = None
        environments = training_environments(processes) if processes > 1 else [{}] * len(workers)
        all_gpus = tuple(gpu for worker in workers for gpu in worker.gpus)
        for worker, environment in zip(workers, environments, strict=True):
            order = Order(
                run.out,
                step.name,
                self._started[key],
                processes,
                run.request.level,
                worker.needs.threads,
                all_gpus if processes > 1 else worker.gpus,
                environment,
                worker.nice,
                modules_of(step, run.recipe),
            )
            self._started[key] += 1
            running = _Running(run, step, worker, order.worker, time.monotonic())
            self._running[self._executor.start(order)] = running

    def _end(self, ended: Ended) -> None:
        """Take note of a worker that ended, and of its step if it was the last.

        Raises:
            LtgcError: it failed.
        """
        one = self._running.pop(ended.ticket)
        seconds = time.monotonic() - one.start
        note_worker(one.run.out, one.step.name, one.number, seconds, ended.cpu_seconds, ended.code)
        key, logs = one.worker.key, one.run.run.folder(one.step.name) / "logs"
        if stopping.is_asked() and ended.code in stopping.CODES:
            self._interrupted.add(key)
        elif ended.code:
            raise explain(one.step.name, ended.code, ended.cpu_seconds, logs)
        if key not in self._interrupted and all(each.worker.key != key for each in self._running.values()):
            one.run.end(one.step)
            self._ready = None

    def _stop(self) -> None:
        """Ask the workers to finish their chunks and to write their checkpoints.

        Raises:
            Stopped: all have ended.
        """
        if not self._is_told:
            self._executor.signal(signal.SIGUSR1)
            self._is_told = True
        if not self._running:
            raise stopping.Stopped

    def _beat(self) -> None:
        """Log the progress of what runs once a minute where no terminal shows it."""
        if time.monotonic() - self._beaten < HEARTBEAT_S:
            return
        self._beaten += HEARTBEAT_S
        if is_terminal():
            return
        for each in {each.worker.key: each for each in self._running.values()}.values():
            progress, seconds = read_progress(each.run.run, each.step.name), each.run.seconds(each.step)
            words = describe_progress(progress, seconds) if progress else f"starting for {duration(seconds)}"
            each.run.say(f"{each.step.name}: {words}")


def make_report_again(out: Path, log: Callable[[str], None]) -> None:
    """Make the report of a measured run again where it is damaged or gone.

    Raises:
        LtgcError: of the kind that says what went wrong.
    """
    recipe, run = read_run_recipe(out), RunDirectory(out)
    steps = {step.name: step for step in build_plan(recipe)}
    report = next(step for step in steps.values() if step.is_report)
    if any(run.manifest(name) is None for name in report.reads):
        return
    if run.manifest(report.name) is None or run.find_damage(report.name):
        run_pipeline(Request(recipe, out, shlex.join(["ltgc-local", "run", str(out)]), again=True), log)
