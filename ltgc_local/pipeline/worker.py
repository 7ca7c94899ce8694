"""One process of one step: run the chunks that are not complete yet. Started by ``launch``.

    python -m ltgc_local.pipeline.worker RUN STEP WORKER WORKERS

Worker w of W takes the chunks whose number is w modulo W; items carry their own seeds, so W changes nothing else. Where
workers train together, each has all chunks and its share of every batch, and the first writes.
"""

from __future__ import annotations

from ltgc_local import offline

offline.set_environment()

import ctypes  # noqa: E402 (the environment comes before every other import)
import importlib  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
import warnings  # noqa: E402
from contextlib import AbstractContextManager, nullcontext  # noqa: E402
from pathlib import Path  # noqa: E402

from ltgc_local.errors import BackendError, LtgcError  # noqa: E402
from ltgc_local.methods.context import Stage, StageContext  # noqa: E402
from ltgc_local.out_of_memory import describe_lack, is_out_of_memory  # noqa: E402
from ltgc_local.pipeline.plan import build_plan  # noqa: E402
from ltgc_local.printable import printable  # noqa: E402
from ltgc_local.recipe import Recipe  # noqa: E402
from ltgc_local.runs.directory import RunDirectory  # noqa: E402
from ltgc_local.runs.files import Text, explain, write_atomically  # noqa: E402
from ltgc_local.runs.progress import Progress  # noqa: E402
from ltgc_local.runs.provenance import read_run_recipe  # noqa: E402

PR_SET_PDEATHSIG = 1  # of prctl(2)


def run_step(root: Path, step_name: str, worker: int, workers: int) -> None:
    """Execute this worker's chunks of a step, and the step's manifest by the last one standing (the launcher)."""
    run = RunDirectory(root)
    recipe = read_run_recipe(root)
    step = next(step for step in build_plan(recipe) if step.name == step_name)
    stage: Stage = importlib.import_module(f"ltgc_local.methods.{step.stage.module}")
    is_together = step.stage.parallel == "together" and workers > 1
    with _meeting(recipe, workers) if is_together else nullcontext(), Progress(step_name) as progress:
        complete = run.complete_chunks(step_name)
        context = StageContext(recipe, step, run, progress)
        chunks = stage.plan_chunks(context)
        mine = [number for number in range(len(chunks)) if is_together or number % workers == worker]
        progress.expect(sum(len(chunks[number]) for number in mine))
        if step.model_role is not None and any(number not in complete for number in mine):
            _ = context.model, context.model_beside  # loaded before a clock runs: a chunk's seconds are its work
        for number in mine:
            if number in complete:
                progress.advance(len(chunks[number]))
                continue
            start = time.monotonic()
            artefacts = stage.run_chunk(context, chunks[number])
            if is_together and worker > 0:
                continue
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            facts = {"items": len(chunks[number]), "seconds": round(time.monotonic() - start, 3), "peak_mib": peak_mib}
            run.write_chunk(step_name, number, artefacts, facts, getattr(stage, "NUMBERED", True))
    if worker == 0:
        write_atomically(Text("num_chunks", str(len(chunks))), run.folder(step_name) / "num_chunks")


def _meeting(recipe: Recipe, workers: int) -> AbstractContextManager[None]:
    from ltgc_local.training.distributed import process_group

    return process_group(recipe.models.device, workers)


def _end_with(launcher: int) -> None:
    """Have the system end this process when its launcher ends, be it killed: the same command starts another one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != launcher:
        raise SystemExit(128 + signal.SIGTERM)


class _Printable(logging.Formatter):
    """Shows control characters, which models' words and others' files may hold."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def main(arguments: list[str]) -> int:
    if launcher := os.environ.get("LTGC_LAUNCHER"):
        _end_with(int(launcher))
    offline.forbid_network()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable(logging.BASIC_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    root, step_name, worker, workers = arguments
    try:
        run_step(Path(root), step_name, int(worker), int(workers))
    except Exception as problem:
        error = _explained(problem, step_name)
        if error is None:
            raise
        if os.environ.get("LTGC_TRACEBACK"):
            traceback.print_exc()
        else:
            print(printable(str(error)), file=sys.stderr)
        return error.exit_code
    return 0


def _explained(problem: Exception, step: str) -> LtgcError | None:
    """Return what a user is told; None where it is a mistake of the program, whose traceback says more."""
    if is_out_of_memory(problem) and not isinstance(problem, BackendError):
        return BackendError(
            f"step {step}: {describe_lack(problem)}; batch sizes and models.decode_threads lower the need"
        )
    if isinstance(problem, LtgcError):
        return problem
    return explain(problem)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the launcher says so, and ends this one
    sys.exit(main(sys.argv[1:]))
