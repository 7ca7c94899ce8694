"""Commands that look at a recipe and run nothing: ``validate`` and ``plan``."""

from __future__ import annotations

import click

from ltgc_local.cli import console
from ltgc_local.cli.arguments import RecipeArguments, takes_recipe
from ltgc_local.errors import ModelError


@click.command()
@takes_recipe
@click.option("--images", is_flag=True, help="Also read the data's lists and decode every image, which takes a while.")
def validate(asked: RecipeArguments, images: bool) -> None:
    """Check a recipe and list every problem with its line.

    Example: ltgc-local validate recipes/quickstart.yaml --set train.lr=0.002
    """
    loaded = asked.load()
    for name, row in loaded.rows.items():
        where = f"{asked.recipe}, row {name}" if loaded.is_table else f"{asked.recipe}"
        console.write(f"{where}: fine ({row.method} on {row.data.benchmark}, seed {row.seed})")
    from ltgc_local.pipeline.preview import notes_of_memory, problems_of_models

    rows = {str(row.models): row for row in loaded.rows.values()}.values()
    problems = [problems_of_models(row) for row in rows]
    wrong = dict.fromkeys(problem for _, found in problems for problem in found)
    for problem in dict.fromkeys(problem for missing, _ in problems for problem in missing):
        console.write(f"cannot run yet: {problem}")
    for problem in wrong:
        console.log(problem)
    for note in dict.fromkeys(note for row in loaded.rows.values() for note in notes_of_memory(row)):
        console.write(f"memory: {note}")
    if images:
        from ltgc_local.cli.text import decoded_as_text
        from ltgc_local.datasets import open_corpus

        for data in {str(row.data): row.data for row in loaded.rows.values()}.values():
            corpus = open_corpus(data)
            corpus.check_images_are_there()
            console.write(decoded_as_text(data, corpus.check_images_decode()))
    if wrong:
        click.get_current_context().exit(ModelError.exit_code)


@click.command()
@takes_recipe
@click.option("--json", "as_json", is_flag=True, help="Print JSON; for a table, by row.")
def plan(asked: RecipeArguments, as_json: bool) -> None:
    """Show a recipe's steps, models and number of images.

    Example: ltgc-local plan recipes/quickstart.yaml --json
    """
    from ltgc_local.cli.text import plan_as_text
    from ltgc_local.pipeline.preview import plan_as_dict

    loaded = asked.load()
    plans = {name: plan_as_dict(row) for name, row in loaded.rows.items()}
    if as_json:
        console.write_json(plans if loaded.is_table else plans[loaded.name])
    else:
        console.write("\n\n".join(map(plan_as_text, plans.values())))
