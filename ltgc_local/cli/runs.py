"""Commands about runs: ``run``, ``status``, ``report`` and ``compare``."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ltgc_local import stopping
from ltgc_local.cli import console
from ltgc_local.cli.arguments import PATH, RUN, RecipeArguments, takes_recipe
from ltgc_local.errors import ArtefactError, RecipeError

if TYPE_CHECKING:
    from ltgc_local.runs.logs import Level

REDRAW_S = 2.0


@click.command()
@takes_recipe
@click.option("--out", type=PATH, help="Run directory; runs/<recipe name> by default.")
@click.option("--from", "from_step", metavar="STEP", help="Redo this step and every step that depends on it.")
@click.option("--to", "to_step", metavar="STEP", help="Stop after this step.")
@click.option("--seeds", metavar="LIST", help="Seeds to run: a list (0,1,2) or a count (3).")
@click.option(
    "--train-seeds",
    metavar="LIST",
    help="Seeds of the training alone, as --seeds: all of them train on the same generated images.",
)
@click.option("--row", "only", multiple=True, metavar="NAME", help="Run only this row of a table; repeatable.")
@click.option(
    "--reuse",
    multiple=True,
    type=PATH,
    help="Take finished steps with the same settings from the runs in this folder; repeatable.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors and the result only.")
@click.option("-v", "--verbose", is_flag=True, help="Also print what the steps log.")
def run(
    asked: RecipeArguments,
    out: Path | None,
    from_step: str | None,
    to_step: str | None,
    seeds: str | None,
    train_seeds: str | None,
    only: tuple[str, ...],
    reuse: tuple[Path, ...],
    quiet: bool,
    verbose: bool,
) -> None:
    """Run a recipe or a table of recipes, or resume a run.

    The same command resumes a run that was interrupted. The runs of a table or of several seeds are compared at the
    end.

    Example: ltgc-local run recipes/quickstart.yaml --set seed=1 --out runs/seed1
    """
    from ltgc_local.cli.text import outcome_as_text, stale_as_text
    from ltgc_local.pipeline.fingerprint import StaleStep
    from ltgc_local.pipeline.sweep import Invocation, recipes_of_run, start

    if quiet and verbose:
        raise click.UsageError("-q prints less and -v more; give one of them")
    recipe = asked.recipe
    is_run = (recipe / "recipe.json").is_file()
    loaded = recipes_of_run(recipe) if is_run else asked.load()
    given_words = (*asked.overrides, *asked.presets, *only, asked.base, seeds, train_seeds)
    changes = [str(word) for word in given_words if word]
    if is_run and changes:
        raise RecipeError(
            f"{changes[0]}: {recipe} is a run, which has its own recipe; give a recipe to change something"
        )
    out = recipe if is_run and out is None else out
    # Without --out, which a remedy adds itself, and --reuse, which --from refuses.
    options = {"--set": asked.overrides, "--preset": asked.presets, "--base": (asked.base,), "--seeds": (seeds,)}
    options |= {"--train-seeds": (train_seeds,), "--row": only, "--to": (to_step,)}
    given = [str(word) for name, values in options.items() for value in values if value for word in (name, value)]
    command = shlex.join(["ltgc-local", "run", str(recipe), *given])
    again = is_run and out is not None and out.resolve() == recipe.resolve()
    level: Level = "error" if quiet else "info" if verbose else "warning"
    invocation = Invocation(loaded, command, out, from_step, to_step, seeds, train_seeds, only, reuse, again, level)
    logger = logging.getLogger("ltgc_local")  # this process's; the steps' processes are passed the level
    before = logger.level
    logger.setLevel(level.upper())
    stopping.listen()
    try:
        outcome = start(invocation, (lambda line: None) if quiet else console.log)
    except StaleStep as stale:
        raise ArtefactError(stale_as_text(stale, command, invocation.root)) from stale
    finally:
        logger.setLevel(before)
    console.write(outcome_as_text(outcome, to_step))


@click.command()
@RUN
@click.argument("step")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Also print what the step logs.")
def work(run_directory: Path, step: str, quiet: bool, verbose: bool) -> None:
    """Take part in one step of a run.

    This is what a task of a cluster's job runs: any number of them, on any nodes, share the step. The run must have
    been prepared. Exit code 75 means: try again later, because the step's inputs are not complete, a launcher holds the
    run, or a signal asked to stop.

    Example: ltgc-local work runs/quickstart draw
    """
    from ltgc_local.pipeline.participation import take_part

    level: Level = "error" if quiet else "info" if verbose else "warning"
    stopping.listen()
    take_part(run_directory, step, (lambda line: None) if quiet else console.log, level)


FORMAT = click.Choice(["markdown", "csv", "latex", "html"])
SPLIT = click.Choice(["test", "val"])
LEVEL = click.FloatRange(0.5, 1, min_open=True, max_open=True)
CHOOSE = "Images to compare on. Choose settings on val, which needs trained runs only."


@click.command(context_settings={"show_default": True})
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...")
@click.option("--format", "kind", default="markdown", type=FORMAT, help="Format of the tables.")
@click.option("--out", type=PATH, help="Write to this file instead of printing.")
@click.option("--split", default="test", type=SPLIT, help=CHOOSE)
@click.option("--level", default=0.95, type=LEVEL, help="Confidence level of the intervals.")
@click.option("--resamples", default=2000, type=click.IntRange(100, 100_000), help="Bootstrap resamples per interval.")
def compare(
    runs: tuple[Path, ...], kind: str, out: Path | None, split: Literal["test", "val"], level: float, resamples: int
) -> None:
    """Compare runs, with intervals and the paper's figures.

    Runs that differ only by their seed are one row.

    Example: ltgc-local compare runs/table5 --format latex --out table5.tex
    """
    from ltgc_local.comparison import compare_runs, write_comparison
    from ltgc_local.methods.registry import COMPARISONS

    text = write_comparison(compare_runs(runs, COMPARISONS, level, resamples, split), kind)
    if out is None:
        console.write(text, end="")
    else:
        console.write_file(out, text)


@click.command()
@RUN
@click.option("--json", "as_json", is_flag=True, help="Print numbers for scripts, as JSON.")
@click.option("--check", is_flag=True, help="Also compare every file with its sha256 and name what is damaged.")
@click.option(
    "--exit-code", "tells", is_flag=True, help="End with 0 if the run is complete, 7 if images are missing, else 75."
)
@click.option("--trace", type=PATH, metavar="FILE", help="Write which step ran when, for chrome://tracing or Perfetto.")
@click.option("--watch", "is_watched", is_flag=True, help="Redraw every two seconds until the run is complete.")
def status(run_directory: Path, as_json: bool, check: bool, tells: bool, trace: Path | None, is_watched: bool) -> None:
    """Show how far a run has got.

    What the run directory holds counts. Of a run whose jobs were sent to SLURM, what SLURM says of them is shown, too.

    Example: ltgc-local status runs/quickstart --check
    """
    from ltgc_local.cli.text import status_as_dict, status_as_text
    from ltgc_local.pipeline.damage import find_all_damage
    from ltgc_local.pipeline.status import run_status
    from ltgc_local.pipeline.summary import summarize_run
    from ltgc_local.runs.provenance import read_run_recipe
    from ltgc_local.runs.timeline import chrome_trace
    from ltgc_local.slurm.view import jobs_of_steps

    recipe = read_run_recipe(run_directory)
    if is_watched and (as_json or check or tells or trace or not sys.stdout.isatty()):
        raise click.UsageError("--watch redraws a terminal: not a file or a pipe, and with no other option")
    try:
        while is_watched:
            steps = run_status(recipe, run_directory)
            summary, jobs = summarize_run(recipe, run_directory, steps), jobs_of_steps(run_directory, steps)
            click.clear()
            console.write(status_as_text(steps, summary, run_directory, jobs))
            if all(step.state == "complete" for step in steps):
                return
            time.sleep(REDRAW_S)
    except KeyboardInterrupt:
        console.log("no longer watching; the run is not affected")
        return
    if check and (damage := find_all_damage(recipe, run_directory)):
        raise ArtefactError("\n".join(damage))
    if trace is not None:
        console.write_file(trace, json.dumps(chrome_trace(run_directory)))
    steps = run_status(recipe, run_directory)
    summary, jobs = summarize_run(recipe, run_directory, steps), jobs_of_steps(run_directory, steps)
    if as_json:
        console.write_json(status_as_dict(steps, summary, jobs))
    else:
        console.write(status_as_text(steps, summary, run_directory, jobs))
        if check:
            console.write("all files of the complete steps are intact")
    if tells:
        click.get_current_context().exit(summary.exit_code)


@click.command()
@RUN
@click.option("--dependents", is_flag=True, help="Also redo the steps made from files that come out different.")
def repair(run_directory: Path, dependents: bool) -> None:
    """Make damaged and missing files of a run again, and nothing else.

    Every file is compared with its sha256. The chunk that wrote a damaged one is made again, so the models and the data
    must be there. On the same machine and libraries, files come out as they were. If they do not, the command says so
    and names the steps that were made from the old ones.

    Example: ltgc-local repair runs/quickstart
    """
    from ltgc_local.cli.text import repaired_as_text, stale_as_text
    from ltgc_local.pipeline.fingerprint import StaleStep
    from ltgc_local.pipeline.repair import redo_outdated, repair_run

    again = shlex.join(["ltgc-local", "run", str(run_directory)])
    try:
        done = repair_run(run_directory, console.log)
        if done.outdated and dependents:
            redo_outdated(run_directory, [name for names in done.outdated.values() for name in names], console.log)
    except StaleStep as stale:
        raise ArtefactError(stale_as_text(stale, again, run_directory)) from stale
    text = repaired_as_text(done, run_directory, dependents)
    if done.outdated and not dependents:
        raise ArtefactError(text)
    console.write(text)


@click.command()
@RUN
def report(run_directory: Path) -> None:
    """Print a run's results and where its report is.

    A report that is damaged or missing is made again.

    Example: ltgc-local report runs/quickstart
    """
    from ltgc_local.cli.text import figures_as_text, stale_as_text
    from ltgc_local.pipeline.fingerprint import StaleStep
    from ltgc_local.pipeline.preview import read_figures
    from ltgc_local.pipeline.scheduler import make_report_again

    read_figures(run_directory)  # reports what is missing, if that is more than the report
    try:
        make_report_again(run_directory, console.log)
    except StaleStep as stale:
        again = shlex.join(["ltgc-local", "run", str(run_directory)])
        raise ArtefactError(stale_as_text(stale, again, run_directory)) from stale
    console.write(figures_as_text(read_figures(run_directory)))
