"""Several runs from one command: where they go, what they share, what goes on, and what the seeds say together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltgc_local.cli.text import outcome_as_text, stale_as_text
from ltgc_local.datasets import open_corpus
from ltgc_local.errors import ModelError, RecipeError
from ltgc_local.pipeline.fingerprint import StaleStep, fingerprint
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.preparation import Request, look_at_inputs
from ltgc_local.pipeline.sweep import Invocation, Outcome, list_jobs, list_others, parse_seeds, start
from ltgc_local.recipe import Recipe, Recipes
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, Images, Json, Table, encode_png
from ltgc_local.runs.provenance import write_run_recipe
from ltgc_local.runs.sealed import write_sealed

FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}
MakeTable = Callable[..., Recipes]


@pytest.fixture
def make_table(make_recipe: Callable[..., Recipe], empty_models: tuple[str, ...]) -> MakeTable:
    """A function {row: options} -> a table on models whose folders hold no tensor: a step with a model cannot run."""

    def make(**rows: tuple[str, ...]) -> Recipes:
        found = {
            row: make_recipe("assess.enabled=false", *empty_models, f"name={row}", *options)
            for row, options in rows.items()
        }
        return Recipes("t", found, is_table=True)

    return make


def complete(recipe: Recipe, root: Path, up_to: str) -> RunDirectory:
    """Complete a run's steps up to one, as if models had done them; the draw step has two real images."""
    run = RunDirectory(root)
    root.mkdir(parents=True, exist_ok=True)
    write_run_recipe(root, recipe)
    digests = look_at_inputs(Request(recipe, root, "c")).digests
    labels = open_corpus(recipe.data).test.labels
    for step in build_plan(recipe):
        if step.name == "draw":
            png = encode_png(Image.new("L", (4, 4), 7))
            run.write_chunk(step.name, 0, [Images("images", [GeneratedImage(png, 1, "bag", 0, "text", 0, 1)])], FACTS)
        elif step.name == "evaluate":
            share = 0.5 + recipe.seed / 10
            right = np.arange(len(labels)) % 100 < 100 * share
            groups = dict.fromkeys(("all", "many", "medium", "few"), 100 * share) | {"per_class": {}}
            predicted = {"label": labels, "ltgc.predicted": np.where(right, labels, -1)}
            classes = [{"class_id": c, "num_train": 500} for c in range(10)]
            artefacts = [Json("metrics", {"ltgc": groups}), Json("classes", classes), Table("predictions", predicted)]
            run.write_chunk(step.name, 0, artefacts, FACTS, numbered=False)
        else:
            run.write_chunk(step.name, 0, [Json("made", step.name)], FACTS, numbered=False)
        run.write_manifest(step.name, fingerprint(step, recipe, run, digests), 1, 0)
        if step.name == up_to:
            break
    return run


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("1", (0,)), ("0,1,2", (0, 1, 2)), ("7,", (7,)), (" 4, 2 ,4", (4, 2))],
)
def test_seeds_are_a_list_or_how_many(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "1,x", "1.5", ",", "a"])
def test_what_are_no_seeds_is_a_usage_error(text: str) -> None:
    with pytest.raises(RecipeError, match="expected seeds such as 0,1,2, or how many"):
        parse_seeds(text)


def test_a_tables_runs_are_row_and_seed_and_the_first_seeds_come_first(make_table: MakeTable) -> None:
    jobs = list_jobs(make_table(a=(), b=("seed=5",)), Path("o"), (0, 1))
    assert [str(job.out) for job in jobs] == ["o/a/seed-0", "o/b/seed-0", "o/a/seed-1", "o/b/seed-1"]
    assert [job.recipe.seed for job in jobs] == [0, 0, 1, 1]
    assert [str(job.out) for job in list_jobs(make_table(a=(), b=("seed=5",)), Path("o"))] == [
        "o/a/seed-0",
        "o/b/seed-5",
    ]


def test_one_recipe_with_seeds_has_no_row(make_recipe: Callable[..., Recipe]) -> None:
    recipes = Recipes("plain", {"plain": make_recipe()}, is_table=False)
    assert [str(job.out) for job in list_jobs(recipes, Path("o"), (0, 3))] == ["o/seed-0", "o/seed-3"]
    with pytest.raises(RecipeError, match="--row a: no such row; this recipe is no table"):
        list_jobs(recipes, Path("o"), (0,), ("a",))


def test_each_seed_of_the_training_is_a_run_beside_each_seed(make_table: MakeTable) -> None:
    recipes = Recipes("plain", {"plain": make_table(a=()).rows["a"]}, is_table=False)
    jobs = list_jobs(recipes, Path("o"), None, (), (0, 1))
    assert [str(job.out) for job in jobs] == ["o/seed-0-train-0", "o/seed-0-train-1"]
    assert [(job.recipe.seed, job.recipe.train_seed) for job in jobs] == [(0, 0), (0, 1)]
    jobs = list_jobs(make_table(a=(), b=()), Path("o"), (3, 4), ("b",), (7,))
    assert [str(job.out) for job in jobs] == ["o/b/seed-3-train-7", "o/b/seed-4-train-7"]
    # One that a recipe has itself is in the name, too, or a change of it would find the other's run there.
    assert [str(job.out) for job in list_jobs(make_table(a=("train_seed=2",)), Path("o"))] == ["o/a/seed-0-train-2"]


def test_seeds_of_the_training_draw_once(make_table: MakeTable, tmp_path: Path) -> None:
    recipe, root, said = make_table(a=()).rows["a"], tmp_path / "runs", []
    complete(recipe, tmp_path / "before", "draw")
    asked = Invocation(
        Recipes("a", {"a": recipe}, is_table=False), "c", root, to_step="generated", train_seeds="3",
        reuse=(tmp_path / "before",),
    )  # fmt: skip
    start(asked, said.append)
    runs = [f"seed-0-train-{number}" for number in range(3)]
    assert [line for line in said if "1 items" in line] == [line for line in said if line.startswith(runs[0])][-1:]
    assert [line for line in said if "generated: taken" in line] == [
        f"{run}: generated: taken from {root / runs[0]}" for run in runs[1:]
    ]
    assert len({RunDirectory(root / run).digest("generated") for run in runs}) == 1


def test_rows_can_be_chosen_and_an_unknown_one_is_refused(make_table: MakeTable) -> None:
    table = make_table(a=(), b=())
    assert [str(job.out) for job in list_jobs(table, Path("o"), None, ("b",))] == ["o/b/seed-0"]
    with pytest.raises(RecipeError, match="--row c: no such row; rows: a, b"):
        list_jobs(table, Path("o"), None, ("c",))


def test_a_row_takes_from_another_what_is_equal_and_does_the_rest(make_table: MakeTable, tmp_path: Path) -> None:
    """Row b differs from a in training alone: all up to the drawings is taken, and what a has collected before it."""
    table, root, said = make_table(a=(), b=("train.mixing=union",)), tmp_path / "runs", []
    first = complete(table.rows["a"], root / "a/seed-0", "draw")
    outcome = start(Invocation(table, "c", root, to_step="generated"), said.append)
    assert outcome == Outcome(root, is_whole=False)
    assert outcome_as_text(outcome, "generated") == f"{root}: done up to generated"
    second = RunDirectory(root / "b/seed-0")
    assert [line for line in said if "taken" in line] == [
        f"b/seed-0: {step}: taken from {first.root}" for step in ("describe", "extend", "draw", "generated")
    ]
    assert [line.split(":")[0] for line in said if "1 items" in line] == ["a/seed-0"]  # collected once
    assert second.digest("generated") == first.digest("generated")
    assert second.images("generated")[0].key == (1, 0, 0)
    assert json.loads((second.root / "recipe.json").read_text())["train"]["mixing"] == "union"


def test_the_control_is_shared_by_rows_that_use_generated_images_otherwise(
    make_table: MakeTable, tmp_path: Path
) -> None:
    table, root, said = make_table(a=(), b=("train.mixing=union",), c=("train.lr=0.5",)), tmp_path / "runs", []
    complete(table.rows["a"], root / "a/seed-0", "train/control")
    for row in ("b", "c"):
        complete(table.rows[row], root / row / "seed-0", "leaks/compare")
        with pytest.raises(ModelError):  # the next step that is not shared has models that cannot be loaded
            start(Invocation(table, "c", root, only=(row,)), said.append)
    assert [line for line in said if "taken" in line] == [f"b/seed-0: train/control: taken from {root / 'a/seed-0'}"]
    assert [line for line in said if "train/control …" in line] == ["c/seed-0: train/control …"]


def test_a_row_with_other_settings_upstream_takes_nothing(make_table: MakeTable, tmp_path: Path) -> None:
    table, root = make_table(a=(), b=("describe.max_new_tokens=50",)), tmp_path / "runs"
    complete(table.rows["a"], root / "a/seed-0", "draw")
    with pytest.raises(ModelError):  # describe is to run, and there is no model
        start(Invocation(table, "c", root, to_step="describe"), lambda line: None)


def test_finished_steps_are_taken_from_runs_elsewhere_when_asked(make_table: MakeTable, tmp_path: Path) -> None:
    table, said = make_table(a=()), []
    complete(table.rows["a"], tmp_path / "elsewhere/x/seed-0", "generated")
    asked = Invocation(table, "c", tmp_path / "runs", to_step="generated", reuse=(tmp_path / "elsewhere",))
    start(asked, said.append)
    assert len(said) == 4 and all("taken from" in line for line in said)


def test_one_recipe_takes_from_elsewhere_too(make_table: MakeTable, tmp_path: Path) -> None:
    recipe, said = make_table(a=()).rows["a"], []
    complete(recipe, tmp_path / "before", "generated")
    one = Recipes("a", {"a": recipe}, is_table=False)
    start(Invocation(one, "c", tmp_path / "now", to_step="generated", reuse=(tmp_path / "before",)), said.append)
    assert len(said) == 4 and all("taken from" in line for line in said)


def test_from_a_step_does_it_again_in_every_row_and_takes_no_old_one(make_table: MakeTable, tmp_path: Path) -> None:
    table, root, said = make_table(a=(), b=("train.mixing=union",)), tmp_path / "runs", []
    for row in table.rows:
        complete(table.rows[row], root / row / "seed-0", "draw")
    start(Invocation(table, "c", root, to_step="generated"), lambda line: None)
    start(Invocation(table, "c", root, from_step="generated", to_step="generated"), said.append)
    assert said[0] == "a/seed-0: generated …"
    assert said[-1] == f"b/seed-0: generated: taken from {root / 'a/seed-0'}"
    for row in table.rows:
        assert (root / row / "seed-0/superseded/0/generated/manifest.json").is_file()
    with pytest.raises(RecipeError, match="give one of them"):
        start(Invocation(table, "c", root, from_step="generated", reuse=(tmp_path,)), said.append)


def test_a_changed_setting_is_an_error_that_names_the_tables_folder(make_table: MakeTable, tmp_path: Path) -> None:
    table, root = make_table(a=()), tmp_path / "runs"
    complete(table.rows["a"], root / "a/seed-0", "generated")
    changed = make_table_row(table, "draw", {"steps": 3})
    asked = Invocation(changed, "ltgc-local run t.yaml", root, to_step="generated")
    with pytest.raises(StaleStep) as caught:
        start(asked, lambda line: None)
    assert caught.value.run == root / "a/seed-0"
    assert stale_as_text(caught.value, asked.command, asked.root).endswith(f"  ltgc-local run t.yaml --out {root}-2")


def test_runs_go_under_runs_by_the_recipes_name(make_table: MakeTable) -> None:
    table = make_table(a=())
    one = Recipes("a", table.rows, is_table=False)
    assert [str(Invocation(each, "c", seeds=seeds).root) for each in (table, one) for seeds in (None, "2")] == [
        *("runs/t", "runs/t", "runs/a", "runs/a-seeds"),
    ]
    assert str(Invocation(one, "c", train_seeds="2").root) == "runs/a-seeds"


def make_table_row(table: Recipes, block: str, values: dict[str, object]) -> Recipes:
    rows = {
        name: row.model_copy(update={block: getattr(row, block).model_copy(update=values)})
        for name, row in table.rows.items()
    }
    return Recipes(table.name, rows, table.is_table)


def test_complete_seeds_are_left_alone_and_their_table_is_printed_and_written(
    make_table: MakeTable, tmp_path: Path
) -> None:
    recipe, root, said = make_table(a=("train.control=false",)).rows["a"], tmp_path / "runs", []
    recipes = Recipes("a", {"a": recipe}, is_table=False)
    for seed in (0, 1):
        complete(recipe.model_copy(update={"seed": seed}), root / f"seed-{seed}", "report")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    text = outcome_as_text(start(Invocation(recipes, "c", root, seeds="2"), said.append), None)
    assert said == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "| a | BalanceMix, cross-entropy, no iterative evaluation | 0, 1 | 55.0 ± 7.1" in text  # 50 and 60 %
    assert sorted(path.name for path in root.glob("comparison.*")) == [
        f"comparison.{s}" for s in ("csv", "html", "md", "tex")
    ]
    assert text.splitlines()[-1] == f"also: {root}/comparison.html, .csv, .tex, .md"


SHARED = ("leaks/originals", "validate/zero_shot", "predict/zero_shot")


def test_a_new_seed_runs_and_the_complete_one_is_not_touched(make_table: MakeTable, tmp_path: Path) -> None:
    recipe, root, said = make_table(a=("train.control=false",)).rows["a"], tmp_path / "runs", []
    recipes = Recipes("a", {"a": recipe}, is_table=False)
    complete(recipe, root / "seed-0", "report")
    with pytest.raises(ModelError):
        start(Invocation(recipes, "c", root, seeds="0,1"), said.append)
    # Another seed shares nothing but what no seed shapes.
    taken = [f"seed-1: {step}: taken from {root}/seed-0" for step in SHARED]
    assert said == [*taken, "seed-1: describe …"]


def test_the_run_itself_is_not_among_the_others_however_it_is_written(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_sealed(tmp_path / name / "recipe.json", {"name": "x"})
    assert list_others(tmp_path / "b/../a", (tmp_path, tmp_path / "b")) == (tmp_path / "b",)
