"""A run and its sbatch files: write them beside the run, and prepare the run in its first job."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from ltgc_local.errors import ArtefactError
from ltgc_local.model_store.cards import TEXT_ROLES, Role, find_card
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe, TextModels
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.disk import RECIPE, make_folder
from ltgc_local.runs.provenance import read_run_recipe, write_run_recipe
from ltgc_local.slurm.chain import Job, build_chain
from ltgc_local.slurm.profile import Profile
from ltgc_local.slurm.records import Chain, read_chain, write_chain
from ltgc_local.slurm.render import Site, render_chain


def render_run(
    recipe: Recipe, run: Path, command: str, profile: Profile, folder: Path | None = None, workers: int | None = None
) -> tuple[Job, ...]:
    """Write the sbatch files of a run, and its recipe; return its jobs.

    Args:
        command: what runs the recipe here, for the run's provenance.
        folder: where to write the files, if they are only to be read; None: ``<run>/slurm``.
        workers: most tasks of a step.

    Raises:
        LtgcError: the run has another recipe, or the chain does not fit the cluster.
    """
    jobs = build_chain(
        build_plan(recipe),
        profile,
        on_cpu=recipe.models.device == "cpu",
        training_processes=recipe.models.training_processes,
        gpus_of=_gpus_of(recipe),
        most_workers=_most_workers(recipe, workers),
    )
    texts = render_chain(jobs, Site(profile, run.resolve(), recipe.name))
    if folder is None:
        make_folder(run)
        _write_recipe(recipe, run)
    write_chain(run, folder, Chain(jobs, profile.limits.max_array_size, command), texts)
    return jobs


def prepare_run(run: Path, log: Callable[[str], None]) -> None:
    """Check the data and models of a run that was rendered, and write what its jobs need.

    Raises:
        LtgcError: something is missing or damaged.
    """
    from ltgc_local.pipeline.preparation import Request, prepare

    prepare(Request(read_run_recipe(run), run, read_chain(run).command, again=True), log)


def describe_chain(jobs: tuple[Job, ...], folder: Path) -> str:
    """Say what was written, and how many tasks may run at once."""
    tasks = sum(job.tasks or 1 for job in jobs)
    return f"{folder}: {len(jobs)} jobs with {tasks} tasks in all, and submit.sh, which sends them by hand"


def _most_workers(recipe: Recipe, workers: int | None) -> int | None:
    """Return how many may share a step, by the recipe and by what was asked for."""
    limits = [each for each in (workers, recipe.models.workers) if isinstance(each, int)]
    return min(limits, default=None)


def _gpus_of(recipe: Recipe) -> dict[Role, int]:
    """Return the GPUs that a copy of each text model needs, where that is more than one."""
    models = recipe.models
    if not isinstance(models, TextModels):
        return {}
    roles = [role for role in recipe.roles if role in TEXT_ROLES]
    asked = {role: find_card(models.cards, getattr(models, role), role).tensor_parallel for role in roles}
    return {role: models.tensor_parallel or number or 1 for role, number in asked.items()}


def _write_recipe(recipe: Recipe, run: Path) -> None:
    """Write a run's recipe; refuse to where steps were begun with another."""
    if (run / RECIPE).exists() and read_run_recipe(run) != recipe:
        begun = [step.name for step in build_plan(recipe) if RunDirectory(run).begun(step.name) is not None]
        if begun:
            raise ArtefactError(
                f"{run}: was begun with other settings ({begun[0]}); to keep it and start another, give another --out; "
                f"to change it, type: ltgc-local run RECIPE --out {shlex.quote(str(run))}, which names what changed"
            )
    write_run_recipe(run, recipe)
