"""The command line: parse, call, print. It must start at once, so nothing heavy is imported at the top."""

from __future__ import annotations

from ltgc_local import offline

offline.set_environment()

import os  # noqa: E402 (the environment comes before every other import)
import shlex  # noqa: E402
from pathlib import Path  # noqa: E402
from traceback import format_exc  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import click  # noqa: E402

from ltgc_local import __version__  # noqa: E402
from ltgc_local.errors import LtgcError  # noqa: E402

if TYPE_CHECKING:
    from ltgc_local.recipe import Recipe

RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key, e.g. train.lr=0.02.")
OUT = click.option("--out", type=click.Path(path_type=Path), help="Run directory; runs/<recipe name> unless given.")


class Commands(click.Group):
    """Prints a user's mistake as one message and exits with its code; ``--traceback`` shows where it was raised."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LtgcError as error:
            click.echo(format_exc().rstrip() if ctx.params.get("traceback") else str(error), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command goes on where it stopped", err=True)
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


@main.command()
@RECIPE
@SET
@click.option("--images", is_flag=True, help="Also read the data's lists and decode every image; takes its time.")
def validate(recipe: Path, overrides: tuple[str, ...], images: bool) -> None:
    """Check a recipe and print every problem with its line. Example: ltgc-local validate recipes/quickstart.yaml"""
    loaded = _load(recipe, overrides)
    if images:
        from ltgc_local.corpora import open_corpus

        corpus = open_corpus(loaded.data)
        corpus.check_images_are_there()
        click.echo(f"{loaded.data.root}: {corpus.check_images_decode()} images, all of them decode")
    click.echo(f"{recipe}: fine ({loaded.method} on {loaded.data.benchmark}, seed {loaded.seed})")


@main.command()
@RECIPE
@SET
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON.")
def plan(recipe: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print the steps that a recipe runs. Example: ltgc-local plan recipes/quickstart.yaml"""
    from ltgc_local.launch.preview import plan_as_dict, plan_as_text

    loaded = _load(recipe, overrides)
    click.echo(_json(plan_as_dict(loaded)) if as_json else plan_as_text(loaded))


@main.command()
@RECIPE
@SET
@OUT
@click.option("--from", "from_step", metavar="STEP", help="Redo this step and all that read it.")
@click.option("--to", "to_step", metavar="STEP", help="Stop after this step.")
def run(recipe: Path, overrides: tuple[str, ...], out: Path | None, from_step: str | None, to_step: str | None) -> None:
    """Run a recipe, or go on with it. Example: ltgc-local run recipes/quickstart.yaml --set seed=1 --out runs/seed1"""
    from ltgc_local.launch.pipeline import Request, run_pipeline

    loaded = _load(recipe, overrides)
    folder = out or Path("runs") / loaded.name
    words = ["ltgc-local", "run", str(recipe)] + [word for key in overrides for word in ("--set", key)]
    command = shlex.join(words + (["--out", str(out)] if out else []))
    run_pipeline(Request(loaded, folder, command, from_step, to_step), lambda line: click.echo(line, err=True))
    click.echo(_summary(folder) if (folder / "report" / "report.html").is_file() else f"{folder}: done up to {to_step}")


@main.command()
@click.argument("run_directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the states as JSON.")
def status(run_directory: Path, as_json: bool) -> None:
    """Say how far a run is. Example: ltgc-local status runs/quickstart"""
    from ltgc_local.launch.pipeline import read_run_recipe
    from ltgc_local.launch.pipeline import status as states_of

    states = states_of(read_run_recipe(run_directory), run_directory)
    if as_json:
        click.echo(_json(dict(states)))
        return
    width = max(len(name) for name, _ in states)
    for name, state in states:
        click.echo(f"{name:{width}}  {state}")


@main.command()
@click.argument("run_directory", type=click.Path(path_type=Path))
def report(run_directory: Path) -> None:
    """Print a run's table and where its report is. Example: ltgc-local report runs/quickstart"""
    click.echo(_summary(run_directory))


def _load(recipe: Path, overrides: tuple[str, ...]) -> Recipe:
    from ltgc_local.recipe import load_recipe

    return load_recipe(recipe, overrides)


def _summary(run_directory: Path) -> str:
    from ltgc_local.launch.preview import metrics_as_text

    return metrics_as_text(run_directory)


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=1)


if __name__ == "__main__":
    main()
