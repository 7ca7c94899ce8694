"""Take part in one step of a prepared run, together with whoever else does: what a task of a cluster's job does.

No launcher is needed. Tasks lease the chunks, so they may come and go on any node; the one that finds the last chunk
complete writes the manifest. For a training each task is one process, by torchrun's or SLURM's variables.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ltgc_local import stopping
from ltgc_local.errors import BackendError, RecipeError, TryAgain
from ltgc_local.methods.base import Step
from ltgc_local.pipeline.decoded import drop_decoded
from ltgc_local.pipeline.executors.local import LocalExecutor, Order, explain
from ltgc_local.pipeline.executors.machine import visible_gpus
from ltgc_local.pipeline.fingerprint import check_fingerprint, fingerprint
from ltgc_local.pipeline.needs import modules_of, needs_of
from ltgc_local.pipeline.ongoing import count_chunks
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.preparation import Inputs, Request, look_at_inputs
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory, chunk_name
from ltgc_local.runs.leases import Leases
from ltgc_local.runs.logs import Level
from ltgc_local.runs.provenance import read_run_recipe
from ltgc_local.runs.timeline import note_worker

TICK_S = 0.5


@dataclass(frozen=True)
class Place:
    """This task's place among those that were started together, and among all of the step.

    Attributes:
        rank, num_tasks: among those that train together.
        local_rank: among those on this node.
        number: among all tasks of the step, for the names of its logs.
    """

    rank: int = 0
    num_tasks: int = 1
    local_rank: int = 0
    number: int = 0

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Place:
        """Read the variables that torchrun and accelerate set, or those of ``srun`` and of a job's array."""

        def first(*names: str) -> int:
            found = next((environment[name] for name in names if environment.get(name, "").isdecimal()), "0")
            return int(found)

        rank, num_tasks = first("RANK", "SLURM_PROCID"), first("WORLD_SIZE", "SLURM_STEP_NUM_TASKS") or 1
        array = first("SLURM_ARRAY_TASK_ID")
        return cls(rank, num_tasks, first("LOCAL_RANK", "SLURM_LOCALID"), array * num_tasks + rank)


def take_part(root: Path, step_name: str, log: Callable[[str], None], level: Level = "warning") -> None:
    """Do what is left to do of a step, as far as no one else does it.

    Raises:
        TryAgain: its inputs are not complete, or a launcher holds the run.
        Stopped: a signal asked for it.
        LtgcError: of the kind that says what went wrong.
    """
    recipe, run, place = read_run_recipe(root), RunDirectory(root), Place.read()
    steps = {step.name: step for step in build_plan(recipe)}
    if step_name not in steps:
        raise RecipeError(f"no step is called {step_name!r}; steps: {', '.join(steps)}")
    step, name = steps[step_name], step_name
    with run.shared(log):
        if missing := [read for read in step.reads if run.manifest(read) is None]:
            raise TryAgain(
                f"{root}: step {name} reads {', '.join(missing)}, which is not complete yet; try again later"
            )
        inputs = look_at_inputs(Request(recipe, root, ""))
        wanted = fingerprint(step, recipe, run, inputs.digests)
        if check_fingerprint(step, wanted, run):
            log(f"{name}: complete")
            return
        if run.begun(name) is None:
            run.begin(name, wanted)
        if step.stage.parallel == "chunks":
            _work(run, step, recipe, inputs, place, level)
            while _is_left_behind(run, step):
                _work(run, step, recipe, inputs, place, level)
        else:
            is_training = step.stage.parallel == "distributed"
            if is_training:
                _check_number(recipe, place)
            leases = Leases(run.folder(name) / "chunks")
            with leases.hold("step") if not is_training or place.rank == 0 else nullcontext(True) as is_mine:
                if not is_mine and place.num_tasks > 1:
                    raise TryAgain(f"{root}: others train {name}; try again later")
                if not is_mine:
                    log(f"{name}: another task does it")
                    return
                _work(run, step, recipe, inputs, place, level)
        _finish(run, step, wanted, log)
        drop_decoded(run, list(steps.values()))


def _check_number(recipe: Recipe, place: Place) -> None:
    if place.num_tasks != recipe.models.training_processes:
        raise BackendError(
            f"{recipe.models.training_processes} processes train together (models.training_processes), and "
            f"{place.num_tasks} were started; start as many, with srun --ntasks or torchrun --nproc-per-node"
        )


def _work(run: RunDirectory, step: Step, recipe: Recipe, inputs: Inputs, place: Place, level: Level) -> None:
    """Run the worker in a process of its own, to its end."""
    gpus = [] if recipe.models.device == "cpu" else visible_gpus()
    needs = needs_of(step, recipe, inputs.cards, inputs.model_bytes(), has_gpus=bool(gpus))
    is_together = needs.processes > 1
    if not is_together and len(gpus) > needs.gpus > 0:  # all tasks of a node see all GPUs
        gpus = [gpus[(place.local_rank * needs.gpus + i) % len(gpus)] for i in range(needs.gpus)]
    environment = {}
    if is_together:
        environment = {
            "RANK": str(place.rank),
            "WORLD_SIZE": str(place.num_tasks),
            "LOCAL_RANK": str(place.local_rank),
        }
    worker = place.rank if is_together else place.number
    with LocalExecutor() as executor:
        order = Order(
            run.root,
            step.name,
            worker,
            needs.processes,
            level,
            needs.threads,
            tuple(gpus) if needs.gpus else (),
            environment,
            modules=modules_of(step, recipe),
        )
        executor.start(order)
        is_told, start = False, time.monotonic()
        while executor.num_running:
            if stopping.is_asked() and not is_told:
                executor.signal(signal.SIGUSR1)
                is_told = True
            for ended in executor.wait(TICK_S):
                seconds = time.monotonic() - start
                note_worker(run.root, step.name, worker, seconds, ended.cpu_seconds, ended.code)
                if stopping.is_asked() and ended.code in stopping.CODES:
                    raise stopping.Stopped
                if ended.code:
                    raise explain(step.name, ended.code, ended.cpu_seconds, run.folder(step.name) / "logs")
    stopping.check()


def _is_left_behind(run: RunDirectory, step: Step) -> bool:
    """Wait for the chunks that others make; return whether one was left, because who made it ended or was killed."""
    leases, left = Leases(run.folder(step.name) / "chunks"), list(range(run.num_chunks(step.name)))
    while left := [number for number in left if run.complete_chunk(step.name, number) is None]:
        if leases.is_free(map(chunk_name, left)):
            # Complete by now, if it is free because its maker is done.
            return any(run.complete_chunk(step.name, number) is None for number in left)
        stopping.check()
        time.sleep(TICK_S)
    return False


def _finish(run: RunDirectory, step: Step, wanted: dict[str, object], log: Callable[[str], None]) -> None:
    """Write the manifest if all chunks are complete and nobody did."""
    number = count_chunks(step, run)
    left = number - len(run.complete_chunks(step.name))
    if left:
        log(f"{step.name}: {left} of {number} chunks are in the hands of others")
        return
    with Leases(run.folder(step.name) / "chunks").hold("manifest") as is_mine:
        if is_mine and run.manifest(step.name) is None:
            begun = (run.folder(step.name) / "begun.json").stat().st_mtime
            done = run.write_manifest(step.name, wanted, number, round(max(0.0, time.time() - begun), 2))
            log(f"{step.name}: {done.items} items, {done.wall_seconds:.1f} s since it began, {done.peak_mib} MiB")
