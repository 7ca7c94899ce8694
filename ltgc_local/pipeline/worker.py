"""One process of one step, started by ``pipeline.executors``: it makes chunks until none is left to make.

    python -m ltgc_local.pipeline.worker RUN STEP WORKER PROCESSES [LEVEL]

WORKER is its number among the step's. PROCESSES is how many train together, each with its share of every batch; the
first one writes. LEVEL is the lowest level that is printed to standard error: error, warning (the default) or info.
Workers lease the chunks (``runs.leases``), so any number of them may come and go. Items carry their own seeds, so who
makes a chunk does not change it.
"""

from __future__ import annotations

from ltgc_local import offline

offline.set_environment()

import ctypes  # noqa: E402 (the environment comes before every other import)
import logging  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from contextlib import AbstractContextManager, nullcontext  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, cast  # noqa: E402

from ltgc_local import __version__, stopping  # noqa: E402
from ltgc_local.errors import ArtefactError, BackendError, LtgcError  # noqa: E402
from ltgc_local.methods.stage import ChunkedStage, Stage, WholeStage, stage_class  # noqa: E402
from ltgc_local.out_of_memory import describe_lack, is_out_of_memory  # noqa: E402
from ltgc_local.pipeline.executors.machine import RENDEZVOUS  # noqa: E402
from ltgc_local.pipeline.plan import build_plan  # noqa: E402
from ltgc_local.recipe import Recipe  # noqa: E402
from ltgc_local.runs.chunk_plan import ChunkPlan  # noqa: E402
from ltgc_local.runs.costs import Meter  # noqa: E402
from ltgc_local.runs.directory import RunDirectory, chunk_name  # noqa: E402
from ltgc_local.runs.disk import explain  # noqa: E402
from ltgc_local.runs.files import Artefact  # noqa: E402
from ltgc_local.runs.leases import Leases  # noqa: E402
from ltgc_local.runs.logs import Level, worker_logs  # noqa: E402
from ltgc_local.runs.metrics import MetricsWriter, metrics_path  # noqa: E402
from ltgc_local.runs.progress import Progress, peak_mib  # noqa: E402
from ltgc_local.runs.provenance import read_run_recipe  # noqa: E402

PR_SET_PDEATHSIG = 1  # of prctl(2)
POLL_S = 0.1

log = logging.getLogger("ltgc_local.pipeline.worker")  # this module's own name is __main__


def run_step(root: Path, step_name: str, worker: int, processes: int, with_bar: bool = True) -> None:
    """Do this worker's part of a step: chunks, or its share of every batch. The launcher writes the manifest."""
    run = RunDirectory(root)
    recipe = read_run_recipe(root)
    step = next(step for step in build_plan(recipe) if step.name == step_name)
    is_distributed = step.stage.parallel == "distributed" and processes > 1
    folder = run.folder(step_name)
    path = None if is_distributed and worker > 0 else metrics_path(folder, worker)
    metrics = MetricsWriter(path, folder / "logs" / "tensorboard" if recipe.report.tensorboard else None)
    progress = Progress(step_name, metrics.write, with_bar=with_bar)
    with _meeting(recipe, processes) if is_distributed else nullcontext(), progress:
        stage = stage_class(step)(recipe, step, run, progress, metrics)
        stage.meter = Meter(processes if is_distributed else 1)
        do_work(stage, writes=worker == 0 or not is_distributed)


def do_work(stage: Stage, *, writes: bool = True) -> None:
    """Make and write what is missing of the step, as far as no other worker makes it.

    Args:
        writes: whether this process writes what it makes; of several that train together, one does.

    Raises:
        Stopped: the process was asked to stop.
    """
    if isinstance(stage, ChunkedStage):
        _make_chunks(stage)
    elif isinstance(stage, WholeStage) and 0 not in stage.run.complete_chunks(stage.step.name):
        _load_models(stage)
        start = time.monotonic()
        artefacts = stage.make()
        if writes:
            _write(stage, 0, artefacts, stage.progress.done or 1, start)


def _make_chunks(stage: ChunkedStage[Any, Any]) -> None:
    """Make chunks until all are complete or in the hands of other workers."""
    run, step, progress = stage.run, stage.step.name, stage.progress
    leases, complete = Leases(run.folder(step) / "chunks"), run.complete_chunks(step).keys()
    plan = _plan(stage, leases, bool(complete))
    sizes = plan.sizes
    progress.expect(sum(sizes))
    progress.skip(sum(sizes[number] for number in complete if number < len(sizes)))
    left = [number for number in range(len(sizes)) if number not in complete]
    if left and complete:
        stage.review(complete, is_whole=False)
    is_loaded = False
    while left:
        for number in list(left):
            stopping.check()
            with leases.hold(chunk_name(number)) as is_mine:
                if not is_mine or run.complete_chunk(step, number) is not None:
                    continue
                if not is_loaded:
                    _load_models(stage)
                    is_loaded = True
                start = time.monotonic()
                _write(stage, number, stage.make_chunk(plan.items(number, stage.item, run)), sizes[number], start)
            left.remove(number)
            stage.review([number], is_whole=False)
        left = [number for number in left if run.complete_chunk(step, number) is None]
        if left and not leases.may_be_had(map(chunk_name, left)):
            return  # living workers make them
        time.sleep(POLL_S if left else 0)
    stage.review(range(len(sizes)), is_whole=True)


def _plan(stage: ChunkedStage[Any, Any], leases: Leases, has_begun: bool) -> ChunkPlan:
    """Return the plan of the step's chunks, which one worker writes and the others wait for."""
    while (plan := _written_plan(stage, has_begun)) is None:
        with leases.hold("plan") as is_mine:
            if is_mine and (plan := _written_plan(stage, has_begun)) is None:
                plan = stage.run.write_chunk_plan(stage.step.name, stage.chunks(), stage.item)
        if plan is not None:
            return plan
        time.sleep(POLL_S)
    return plan


def _written_plan(stage: ChunkedStage[Any, Any], has_begun: bool) -> ChunkPlan | None:
    """Return the plan that was written. A damaged one counts as none while no chunk has been made by it."""
    try:
        plan = stage.run.chunk_plan(stage.step.name)
        if plan is not None and not has_begun:
            plan.check()
    except ArtefactError:
        if has_begun:
            raise
        return None
    return plan


def _load_models(stage: Stage) -> None:
    """Load the step's models before a chunk's clock starts: its seconds are work alone."""
    if stage.step.model_role is not None:
        log.info("%s: loading the model of role %s", stage.step.name, stage.step.model_role)
        _ = stage.model, stage.co_resident_model


def _write(stage: Stage, number: int, artefacts: list[Artefact], items: int, start: float) -> None:
    seconds, peak = round(time.monotonic() - start, 3), peak_mib()
    costs = stage.meter.read(artefacts, stage.tokens).model_dump(exclude_none=True)
    stage.metrics.write({"chunk": number, **costs})
    facts = {"items": items, "seconds": seconds, "peak_mib": peak, "costs": costs}
    stage.run.write_chunk(stage.step.name, number, artefacts, facts, isinstance(stage, ChunkedStage))
    stage.progress.end_chunk()
    log.info("%s: chunk %d: %d items, %.1f s, %d MiB", stage.step.name, number + 1, items, seconds, peak)


def _meeting(recipe: Recipe, processes: int) -> AbstractContextManager[None]:
    from ltgc_local.training.distributed import process_group

    return process_group(recipe.models.device, processes, os.environ.get(RENDEZVOUS))


def end_with(launcher: int) -> None:
    """Have the system end this process when its launcher ends, even if that is killed; the same command resumes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != launcher:
        raise SystemExit(128 + signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """Be one worker; return the exit code."""
    try:
        return _main(arguments)
    except stopping.Stopped:  # before its work began, or when it was done
        return stopping.Stopped.exit_code


def _main(arguments: list[str]) -> int:
    if launcher := os.environ.get("LTGC_LAUNCHER"):
        end_with(int(launcher))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all; the launcher ends this one
    stopping.listen()
    offline.forbid_network()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    root, step, number, processes, *rest = arguments
    level, worker = cast(Level, rest[0] if rest else "warning"), int(number)
    with worker_logs(RunDirectory(Path(root)).folder(step), worker, level, bool(os.environ.get("LTGC_TRACEBACK"))):
        log.info("%s: worker %d, process %d, ltgc_local %s", step, worker, os.getpid(), __version__)
        try:
            run_step(Path(root), step, worker, int(processes), with_bar=level != "error")
        except stopping.Stopped:
            log.info("%s: asked to stop", step)
            return stopping.Stopped.exit_code
        except Exception as problem:
            error = _explained(problem, step)
            if error is None:
                log.critical("%s: %s", type(problem).__name__, problem, exc_info=problem)
                return LtgcError.exit_code
            log.error("%s", error, exc_info=problem)
            return error.exit_code
        log.info("%s: done", step)
    return 0


def _explained(problem: Exception, step: str) -> LtgcError | None:
    """Return the error to show to the user; None for a bug, whose traceback says more."""
    if is_out_of_memory(problem) and not isinstance(problem, BackendError):
        return BackendError(
            f"step {step}: {describe_lack(problem)}; batch sizes and models.decode_threads lower the need"
        )
    if isinstance(problem, LtgcError):
        return problem
    return explain(problem)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
