"""One process of one step, started by ``pipeline.executors``: it makes the chunks that are not complete yet.

    python -m ltgc_local.pipeline.worker RUN STEP WORKER WORKERS [LEVEL]

LEVEL is the lowest level that is printed to standard error: error, warning (the default) or info.
Worker w of W makes the chunks whose number is w modulo W. Items carry their own seeds, so W does not change results.
Workers that train together each take a share of every batch, and the first one writes.
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

from ltgc_local import __version__  # noqa: E402
from ltgc_local.errors import ArtefactError, BackendError, LtgcError  # noqa: E402
from ltgc_local.methods.stage import ChunkedStage, Stage, WholeStage, stage_class  # noqa: E402
from ltgc_local.out_of_memory import describe_lack, is_out_of_memory  # noqa: E402
from ltgc_local.pipeline.executors.gpus import RENDEZVOUS  # noqa: E402
from ltgc_local.pipeline.plan import build_plan  # noqa: E402
from ltgc_local.recipe import Recipe  # noqa: E402
from ltgc_local.runs.chunk_plan import ChunkPlan  # noqa: E402
from ltgc_local.runs.costs import Meter  # noqa: E402
from ltgc_local.runs.directory import RunDirectory  # noqa: E402
from ltgc_local.runs.disk import explain  # noqa: E402
from ltgc_local.runs.files import Artefact  # noqa: E402
from ltgc_local.runs.logs import Level, worker_logs  # noqa: E402
from ltgc_local.runs.metrics import MetricsWriter, metrics_path  # noqa: E402
from ltgc_local.runs.progress import Progress, peak_mib  # noqa: E402
from ltgc_local.runs.provenance import read_run_recipe  # noqa: E402

PR_SET_PDEATHSIG = 1  # of prctl(2)
POLL_S = 0.05

log = logging.getLogger("ltgc_local.pipeline.worker")  # this module's own name is __main__


def run_step(root: Path, step_name: str, worker: int, workers: int, with_bar: bool = True) -> None:
    """Do this worker's part of a step: its chunks, or its share of every batch. The launcher writes the manifest."""
    run = RunDirectory(root)
    recipe = read_run_recipe(root)
    step = next(step for step in build_plan(recipe) if step.name == step_name)
    is_distributed = step.stage.parallel == "distributed" and workers > 1
    folder, sharing = run.folder(step_name), {"workers": workers} if workers > 1 and not is_distributed else {}
    path = None if is_distributed and worker > 0 else metrics_path(folder, worker)
    metrics = MetricsWriter(path, folder / "logs" / "tensorboard" if recipe.report.tensorboard else None)
    progress = Progress(step_name, lambda values: metrics.write({**values, **sharing}), with_bar=with_bar)
    with _meeting(recipe, workers) if is_distributed else nullcontext(), progress:
        stage = stage_class(step)(recipe, step, run, progress, metrics)
        stage.meter = Meter(workers if is_distributed else 1)
        do_work(stage, worker, workers)


def do_work(stage: Stage, worker: int = 0, workers: int = 1) -> None:
    """Make and write the missing files that are this worker's part of the step."""
    if isinstance(stage, ChunkedStage):
        _make_chunks(stage, worker, workers)
    elif isinstance(stage, WholeStage) and 0 not in stage.run.complete_chunks(stage.step.name):
        _load_models(stage)
        start = time.monotonic()
        artefacts = stage.make()
        if worker == 0:
            _write(stage, 0, artefacts, stage.progress.done or 1, start)


def _make_chunks(stage: ChunkedStage[Any, Any], worker: int, workers: int) -> None:
    run, step, progress = stage.run, stage.step, stage.progress
    complete = run.complete_chunks(step.name)
    plan = _plan(stage, worker, bool(complete))
    sizes = plan.sizes
    _review(stage, len(sizes))
    mine = range(worker, len(sizes), workers)
    progress.expect(sum(sizes[number] for number in mine))
    if any(number not in complete for number in mine):
        _load_models(stage)
    for number in mine:
        if number in complete:
            progress.skip(sizes[number])
            continue
        start = time.monotonic()
        artefacts = stage.make_chunk(plan.items(number, stage.item, run))
        _write(stage, number, artefacts, sizes[number], start)
        _review(stage, len(sizes))


def _plan(stage: ChunkedStage[Any, Any], worker: int, has_begun: bool) -> ChunkPlan:
    """Return the plan of the step's chunks, which the first worker writes and the others wait for."""
    while (plan := _written_plan(stage, has_begun)) is None:
        if worker == 0:
            return stage.run.write_chunk_plan(stage.step.name, stage.chunks(), stage.item)
        time.sleep(POLL_S)  # if the first worker fails, the launcher ends this one
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
    log.info("%s: chunk %d: %d items, %.1f s, %d MiB", stage.step.name, number + 1, items, seconds, peak)


def _review(stage: ChunkedStage[Any, Any], num_chunks: int) -> None:
    stage.review(len(stage.run.complete_chunks(stage.step.name)) == num_chunks)


def _meeting(recipe: Recipe, workers: int) -> AbstractContextManager[None]:
    from ltgc_local.training.distributed import process_group

    return process_group(recipe.models.device, workers, os.environ.get(RENDEZVOUS))


def _end_with(launcher: int) -> None:
    """Have the system end this process when its launcher ends, even if that is killed; the same command resumes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != launcher:
        raise SystemExit(128 + signal.SIGTERM)


def main(arguments: list[str]) -> int:
    if launcher := os.environ.get("LTGC_LAUNCHER"):
        _end_with(int(launcher))
    offline.forbid_network()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    root, step, number, workers, *rest = arguments
    level, worker = cast(Level, rest[0] if rest else "warning"), int(number)
    with worker_logs(RunDirectory(Path(root)).folder(step), worker, level, bool(os.environ.get("LTGC_TRACEBACK"))):
        log.info("%s: worker %s of %s, process %d, ltgc_local %s", step, number, workers, os.getpid(), __version__)
        try:
            run_step(Path(root), step, worker, int(workers), with_bar=level != "error")
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all; the launcher ends this one
    sys.exit(main(sys.argv[1:]))
