"""The command line: parse, call, print. It must start at once, so nothing heavy is imported at the top."""

from __future__ import annotations

from ltgc_local import offline

offline.set_environment()

import logging  # noqa: E402 (the environment comes before every other import)
import os  # noqa: E402
import shlex  # noqa: E402
import sys  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from traceback import format_exc  # noqa: E402
from typing import TYPE_CHECKING, Any, Literal  # noqa: E402

import click  # noqa: E402

from ltgc_local import __version__  # noqa: E402
from ltgc_local.errors import ArtefactError, BackendError, LtgcError, ModelError, RecipeError  # noqa: E402
from ltgc_local.out_of_memory import describe_lack, is_out_of_memory  # noqa: E402
from ltgc_local.printable import printable  # noqa: E402

if TYPE_CHECKING:
    from ltgc_local.recipe import Recipes
    from ltgc_local.runs.logs import Level

PATH = click.Path(path_type=Path, readable=False)  # what cannot be read is said by whoever reads it
RECIPE = click.argument("recipe", type=PATH)
SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key, e.g. train.lr=0.02.")
OUT = click.option("--out", type=PATH, help="Run directory; runs/<recipe name> unless given.")
BASE = click.option("--base", type=PATH, help="Lay a table's rows over this recipe instead.")
PRESET = click.option(
    "--preset",
    "presets",
    multiple=True,
    type=PATH,
    help="Lay this part of a recipe over it.",
)


class Commands(click.Group):
    """Prints a user's mistake as one message and exits with its code; ``--traceback`` shows where it was raised."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        _open_missing_streams()
        try:
            return super().main(*arguments, **options)
        except OSError as error:  # click's own output, such as help
            if error.filename is not None:  # an error of a file, not of a stream
                raise
            _log(str(_output_problem(error)))
            sys.exit(ArtefactError.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as problem:
            error = _error_of(problem)
            if error is None:
                raise
            _log(format_exc().rstrip() if ctx.params.get("traceback") else str(error))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            _log("interrupted; rerun the same command to resume")
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ltgc-local")
@click.option("--traceback", is_flag=True, help="On an error show where in the program it was raised.")
def main(traceback: bool) -> None:
    """Make rare classes recognisable by generating training data for them, offline.

    Example: ltgc-local run recipes/quickstart.yaml
    """
    if traceback:
        os.environ["LTGC_TRACEBACK"] = "1"
    offline.forbid_network()
    try:
        os.getcwd()
    except OSError as error:
        raise RecipeError(
            f"the current folder cannot be read: {error.strerror}; type: cd, and the command again"
        ) from None


@main.command()
@RECIPE
@SET
@click.option("--images", is_flag=True, help="Also read the data's lists and decode every image; takes its time.")
@BASE
@PRESET
def validate(
    recipe: Path, overrides: tuple[str, ...], images: bool, base: Path | None, presets: tuple[Path, ...]
) -> None:
    """Check a recipe and print every problem with its line. Example: ltgc-local validate recipes/quickstart.yaml"""
    loaded = _load(recipe, overrides, base, presets)
    for name, row in loaded.rows.items():
        where = f"{recipe}, row {name}" if loaded.is_table else f"{recipe}"
        _print(f"{where}: fine ({row.method} on {row.data.benchmark}, seed {row.seed})")
    from ltgc_local.pipeline.preview import notes_of_memory, problems_of_models

    models = {str(row.models): row.models for row in loaded.rows.values()}
    rows = [next(row for row in loaded.rows.values() if row.models == one) for one in models.values()]
    problems = [problems_of_models(row) for row in rows]
    for problem in dict.fromkeys(problem for missing, _ in problems for problem in missing):
        _print(f"cannot run yet: {problem}")
    wrong = dict.fromkeys(problem for _, found in problems for problem in found)
    for problem in wrong:
        _log(problem)
    for note in dict.fromkeys(note for row in loaded.rows.values() for note in notes_of_memory(row)):
        _print(f"memory: {note}")
    if images:
        from ltgc_local.datasets import open_corpus

        for data in {str(row.data): row.data for row in loaded.rows.values()}.values():
            corpus = open_corpus(data)
            corpus.check_images_are_there()
            found = corpus.check_images_decode()
            _print(f"{data.root}: {found.images} images, all of them decode")
            if found.with_alpha:
                _print(
                    f"{found.with_alpha} have alpha: they are laid on {data.alpha_background} (data.alpha_background)"
                )
            if found.of_16_bits:
                _print(f"{found.of_16_bits} have 16 bits: they are scaled to 8")
    if wrong:
        click.get_current_context().exit(ModelError.exit_code)


@main.command()
@RECIPE
@SET
@BASE
@PRESET
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON; of a table by row.")
def plan(recipe: Path, overrides: tuple[str, ...], base: Path | None, presets: tuple[Path, ...], as_json: bool) -> None:
    """Print the steps that a recipe runs. Example: ltgc-local plan recipes/quickstart.yaml"""
    from ltgc_local.pipeline.preview import plan_as_dict, plan_as_text

    loaded = _load(recipe, overrides, base, presets)
    if as_json:
        plans = {name: plan_as_dict(row) for name, row in loaded.rows.items()}
        _print(_json(plans if loaded.is_table else plans[loaded.name]))
    else:
        _print("\n\n".join(map(plan_as_text, loaded.rows.values())))


@main.command()
@RECIPE
@SET
@OUT
@click.option("--from", "from_step", metavar="STEP", help="Redo this step and all that read it.")
@click.option("--to", "to_step", metavar="STEP", help="Stop after this step.")
@click.option(
    "--seeds", metavar="LIST", help="Run with each of these seeds, such as 0,1,2; or with so many, such as 3."
)
@click.option("--row", "only", multiple=True, metavar="NAME", help="Run only this row of a table.")
@BASE
@PRESET
@click.option(
    "--reuse",
    multiple=True,
    type=PATH,
    help="Take finished equal steps from runs in this folder.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only, and the result.")
@click.option("-v", "--verbose", is_flag=True, help="Also print what the steps log.")
def run(
    recipe: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    from_step: str | None,
    to_step: str | None,
    seeds: str | None,
    only: tuple[str, ...],
    base: Path | None,
    presets: tuple[Path, ...],
    reuse: tuple[Path, ...],
    quiet: bool,
    verbose: bool,
) -> None:
    """Run a recipe or every row of a table, or resume a run directory; with several runs compare them.

    Example: ltgc-local run recipes/quickstart.yaml --set seed=1 --out runs/seed1
    """
    from ltgc_local.pipeline.sweep import Invocation, recipes_of_run, start

    if quiet and verbose:
        raise click.UsageError("-q prints less and -v more; give one of them")
    is_run = (recipe / "recipe.json").is_file()
    loaded = recipes_of_run(recipe) if is_run else _load(recipe, overrides, base, presets)
    changes = [str(word) for word in (*overrides, *presets, *only, base, seeds) if word]
    if is_run and changes:
        raise RecipeError(
            f"{changes[0]}: {recipe} is a run, which has its own recipe; give a recipe to change something"
        )
    out = recipe if is_run and out is None else out
    options = {"--set": overrides, "--preset": presets, "--base": (base,), "--seeds": (seeds,), "--row": only}
    options |= {"--to": (to_step,)}  # not --reuse, which --from refuses, nor --out, which a remedy gives itself
    given = [str(word) for name, values in options.items() for value in values if value for word in (name, value)]
    command = shlex.join(["ltgc-local", "run", str(recipe), *given])
    again = is_run and out is not None and out.resolve() == recipe.resolve()
    level: Level = "error" if quiet else "info" if verbose else "warning"
    logging.getLogger("ltgc_local").setLevel(level.upper())  # of this process; a step's own is told
    asked = Invocation(loaded, command, out, from_step, to_step, seeds, only, reuse, again, level)
    _print(start(asked, (lambda line: None) if quiet else _log))


@main.command()
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...")
@click.option(
    "--format", "kind", default="markdown", type=click.Choice(["markdown", "csv", "latex", "html"]), show_default=True
)
@click.option("--out", type=PATH, help="Write to this file instead of printing.")
@click.option(
    "--split",
    default="test",
    type=click.Choice(["test", "val"]),
    show_default=True,
    help="val: the validation images, by which settings may be chosen; trained runs are enough.",
)
@click.option("--level", default=0.95, show_default=True, type=click.FloatRange(0.5, 1, min_open=True, max_open=True))
@click.option("--resamples", default=2000, show_default=True, type=click.IntRange(100, 100_000))
def compare(
    runs: tuple[Path, ...], kind: str, out: Path | None, split: Literal["test", "val"], level: float, resamples: int
) -> None:
    """Print runs side by side, with intervals and the paper's figures; seeds of one recipe are one row.

    Example: ltgc-local compare runs/table5 --format latex --out table5.tex
    """
    from ltgc_local.comparison import compare_runs, write_comparison

    text = write_comparison(compare_runs(runs, level, resamples, split), kind)
    if out is None:
        _print(text, end="")
    else:
        _write(out, text)


@main.command()
@click.argument("run_directory", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print numbers for scripts, as JSON.")
@click.option("--check", is_flag=True, help="Also compare every file with its sha256; name what is damaged.")
@click.option("--watch", "is_watched", is_flag=True, help="Show it anew every two seconds until the run is complete.")
def status(run_directory: Path, as_json: bool, check: bool, is_watched: bool) -> None:
    """Say how far a run is. Example: ltgc-local status runs/quickstart --check"""
    from ltgc_local.cli_status import status_as_dict, status_as_text, watch
    from ltgc_local.pipeline.scheduler import find_all_damage
    from ltgc_local.pipeline.status import run_status
    from ltgc_local.runs.provenance import read_run_recipe

    recipe = read_run_recipe(run_directory)
    if is_watched:
        if as_json or check or not sys.stdout.isatty():
            raise click.UsageError("--watch redraws a terminal: not a file or a pipe, and not with --json or --check")
        watch(run_directory, _log)
        return
    if check and (damage := find_all_damage(recipe, run_directory)):
        raise ArtefactError("\n".join(damage))
    steps = run_status(recipe, run_directory)
    if as_json:
        _print(_json(status_as_dict(steps)))
        return
    _print(status_as_text(steps, run_directory))
    if check:
        _print("every file of every complete step is what was written")


@main.command()
@click.argument("run_directory", type=PATH)
def report(run_directory: Path) -> None:
    """Print a run's table and where its report is; make the report again if it is gone.

    Example: ltgc-local report runs/quickstart
    """
    from ltgc_local.pipeline.scheduler import make_report_again

    _summary(run_directory)  # says what is missing, where it is more than the report
    make_report_again(run_directory, _log)
    _print(_summary(run_directory))


def _error_of(problem: Exception) -> LtgcError | None:
    """Return what a user is told; None where it is a mistake of the program, or click's own business."""
    if isinstance(problem, click.ClickException | click.exceptions.Exit | BrokenPipeError):
        return None
    if is_out_of_memory(problem) and not isinstance(problem, BackendError):
        return BackendError(describe_lack(problem))
    if isinstance(problem, LtgcError):
        return problem
    from ltgc_local.runs.files import explain

    return explain(problem)


def _print(text: str, end: str = "\n") -> None:
    """Write to standard output, control characters shown: what a folder or a file is called may hold any.

    Raises:
        ArtefactError: it is closed, or on a full disk.
    """
    if sys.stdout is None:
        raise ArtefactError("standard output is closed, and the result cannot be written")
    try:
        click.echo(printable(text) + end, nl=False)
    except BrokenPipeError:
        raise  # click ends quietly: who reads has seen enough
    except OSError as error:
        raise _output_problem(error) from None


def _output_problem(error: OSError) -> ArtefactError:
    """Return the error of a standard output that refuses, and leave it: else Python tries once more when it ends."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    return ArtefactError(f"standard output cannot be written: {error.strerror}")


def _log(line: str) -> None:
    """Write a line to standard error, control characters shown; where that cannot be written, nothing can be said."""
    with suppress(OSError):
        click.echo(printable(line), err=True)


def _open_missing_streams() -> None:
    """Open what the shell closed (``2>&-``) on nothing, else the next file that is opened would be standard error."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _load(recipe: Path, overrides: tuple[str, ...], base: Path | None, presets: tuple[Path, ...]) -> Recipes:
    from ltgc_local.recipe import load_recipes

    return load_recipes(recipe, overrides, base=base, presets=presets)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise ArtefactError(f"{path}: cannot be written ({problem.strerror})") from None


def _summary(run_directory: Path) -> str:
    from ltgc_local.pipeline.preview import metrics_as_text

    return metrics_as_text(run_directory)


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=1)


if __name__ == "__main__":
    main()
