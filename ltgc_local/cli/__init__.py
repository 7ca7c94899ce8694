"""The command line: parse, call, print. Nothing heavy is imported before a command runs, so that it starts at once."""

from __future__ import annotations

from ltgc_local import offline

offline.set_environment()

import os  # noqa: E402 (set before every other import)

import click  # noqa: E402

from ltgc_local import __version__  # noqa: E402
from ltgc_local.cli import checks, recipes, runs, slurm  # noqa: E402
from ltgc_local.cli.console import Commands  # noqa: E402
from ltgc_local.errors import RecipeError  # noqa: E402


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ltgc-local")
@click.option("--traceback", is_flag=True, help="On an error, show where in the program it was raised.")
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


for _command in (
    checks.validate,
    checks.plan,
    runs.run,
    runs.status,
    runs.repair,
    runs.report,
    runs.compare,
    runs.work,
    recipes.recipes,
    slurm.slurm,
):
    main.add_command(_command)
