"""Commands for clusters that run SLURM: the site's profile, the jobs of a run, sending and watching them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from ltgc_local.cli import console
from ltgc_local.cli.arguments import PATH, RUN, RecipeArguments, takes_recipe
from ltgc_local.errors import RecipeError

PROFILE = click.option("--profile", type=PATH, help="Site profile; ~/.config/ltgc-local/site.yaml by default.")
TASKS = click.IntRange(1, 100_000)
LINES = 40  # of a log


@click.group()
def slurm() -> None:
    """Run a recipe on a cluster as a chain of SLURM jobs.

    Inside one allocation (sbatch or salloc), `ltgc-local run` is enough.

    Example: ltgc-local slurm render recipes/quickstart.yaml
    """


@slurm.command()
@click.option("--out", type=PATH, help="Where to write it; ~/.config/ltgc-local/site.yaml by default; - prints it.")
@click.option("--check", is_flag=True, help="Check the profile that is there instead, and list every problem.")
def profile(out: Path | None, check: bool) -> None:
    """Write a site profile from what SLURM says about the cluster, with every key explained.

    Nothing is overwritten. Without SLURM on this machine, the profile has defaults to fill in.

    Example: ltgc-local slurm profile
    """
    from ltgc_local.slurm.discover import ask_cluster, describe, fit_profile
    from ltgc_local.slurm.profile import Profile
    from ltgc_local.slurm.profile_text import write_profile
    from ltgc_local.slurm.read_profile import default_path, read_profile

    path = out or default_path()
    if check:
        if not os.path.lexists(path):
            raise RecipeError(f"{path}: no such site profile; to write one, type: ltgc-local slurm profile")
        found = read_profile(path)
        console.write(f"{path}: fine (cluster {found.name})")
        return
    cluster = ask_cluster(str(os.getuid()))
    if cluster is None:
        text = write_profile(Profile(), ["SLURM does not answer on this machine, so these are defaults: fill them in."])
    else:
        text = write_profile(fit_profile(cluster), ["Partitions that are up:", *(f"  {n}" for n in describe(cluster))])
    if str(path) == "-":
        console.write(text, end="")
        return
    if os.path.lexists(path):
        raise RecipeError(f"{path}: exists already, and is not overwritten; give another --out, or remove it")
    console.write_file(path, text)
    console.write(f"{path}: written; look it over, then type: ltgc-local slurm render RECIPE")


@slurm.command()
@takes_recipe
@click.option("--out", type=PATH, help="Run directory; runs/<recipe name> by default.")
@click.option("--to", "folder", type=PATH, help="Write the files here, only to be read; <run>/slurm by default.")
@click.option("--workers", type=TASKS, help="Most tasks of a step; the profile's by default.")
@PROFILE
def render(
    asked: RecipeArguments, out: Path | None, folder: Path | None, workers: int | None, profile: Path | None
) -> None:
    """Write a run's sbatch files: a job or an array per step. Needs no SLURM.

    RECIPE is a recipe, or the directory of a run, which has its own.

    Example: ltgc-local slurm render recipes/quickstart.yaml --out runs/quickstart --workers 4
    """
    from ltgc_local.slurm.read_profile import read_profile
    from ltgc_local.slurm.run_files import describe_chain, render_run

    recipe, run, command = asked.load_one_run(out)
    chain = render_run(recipe, run, command, read_profile(profile), folder, workers)
    console.write(describe_chain(chain, folder or run / "slurm"))
    if folder is None:
        console.write(
            f"to send them and record their numbers, type:\n  ltgc-local slurm submit {shlex.quote(str(run))}"
        )


@slurm.command()
@RUN
def prepare(run_directory: Path) -> None:
    """Check a run's data and models, and write what its jobs need. The first job of a chain does this.

    Example: ltgc-local slurm prepare runs/quickstart
    """
    from ltgc_local.slurm.run_files import prepare_run

    prepare_run(run_directory, console.log)
    console.write(f"{run_directory}: prepared")


@slurm.command()
@RUN
@click.option("--to", "to_step", metavar="STEP", help="Only this step and what it reads.")
def submit(run_directory: Path, to_step: str | None) -> None:
    """Send the jobs of every step that is not complete, and record their numbers.

    The same command goes on with a run whose jobs ended early, and releases jobs that SLURM holds because a node could
    not start them. Steps with other jobs in the queue are left alone.

    Example: ltgc-local slurm submit runs/quickstart
    """
    from ltgc_local.slurm.submit import submit as send

    number = send(run_directory, console.log, to_step)
    watch = f"ltgc-local status {shlex.quote(str(run_directory))}"
    if number:
        console.write(f"{number} jobs sent; to watch them, type:\n  {watch}")
    else:
        console.write(f"nothing to send: every step is complete or has a job in the queue; see: {watch}")


@slurm.command()
@RUN
@click.argument("step")
@click.argument("tasks", type=TASKS)
def resize(run_directory: Path, step: str, tasks: int) -> None:
    """Change how many tasks share a step from now on.

    Further tasks join in; tasks that are cancelled give back what they had in hand.

    Example: ltgc-local slurm resize runs/quickstart draw 16
    """
    from ltgc_local.slurm.submit import resize as change

    console.write(change(run_directory, step, tasks, console.log))


@slurm.command()
@RUN
@click.argument("step", required=False)
def cancel(run_directory: Path, step: str | None) -> None:
    """Cancel a run's jobs, or those of a step. What they made is kept.

    Example: ltgc-local slurm cancel runs/quickstart draw
    """
    from ltgc_local.slurm.submit import cancel as end

    cancelled = end(run_directory, step)
    again = f"; to go on, type: ltgc-local slurm submit {shlex.quote(str(run_directory))}" if cancelled else ""
    console.write(f"cancelled {', '.join(cancelled)}{again}" if cancelled else "none of these jobs is in the queue")


@slurm.command()
@RUN
@click.argument("step", required=False)
@click.option("--failed", is_flag=True, help="Only jobs that failed, with the end of what each printed.")
def logs(run_directory: Path, step: str | None, failed: bool) -> None:
    """List the logs of a run's jobs, or show why some failed.

    Example: ltgc-local slurm logs runs/quickstart --failed
    """
    from ltgc_local.slurm.view import find_failed, find_logs, read_tail

    found = [log for log in (find_failed if failed else find_logs)(run_directory) if step in (None, log.name)]
    for log in found:
        console.write(f"{log.path}: {log}")
        if failed:
            console.write("".join(f"    {line}\n" for line in read_tail(log.path).splitlines()[-LINES:]), end="")
    if not found:
        console.write("no job failed" if failed else "no job has written a log yet")
