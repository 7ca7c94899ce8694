"""Run several recipes with one command: the rows of a table, each with one or more seeds.

Each has an ordinary run directory, <out>/<row>/seed-<n> for a table and <out>/seed-<n> for a single recipe; with a seed
of the training, seed-<n>-train-<m>. It takes finished steps with an equal fingerprint from the others: most rows of a
table, and all seeds of the training, share everything but their training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ltgc_local.comparison import FORMATS, Comparison, compare_runs, write_comparison
from ltgc_local.errors import RecipeError
from ltgc_local.methods.registry import COMPARISONS
from ltgc_local.pipeline.plan import build_plan, match_steps, with_dependents
from ltgc_local.pipeline.preparation import Request
from ltgc_local.pipeline.scheduler import run_all, run_pipeline
from ltgc_local.recipe import Recipe, Recipes
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Text, write_atomically
from ltgc_local.runs.find_runs import find_runs, write_row_order
from ltgc_local.runs.logs import Level
from ltgc_local.runs.provenance import read_run_recipe

MAX_SEED, MAX_SEEDS = 2**63 - 1, 1000
SHOWN_SEEDS = 60  # characters of wrong input that a message repeats


@dataclass(frozen=True)
class Invocation:
    """``ltgc-local run`` as it was typed; ``command`` is the same in one line."""

    recipes: Recipes
    command: str
    out: Path | None = None
    from_step: str | None = None
    to_step: str | None = None
    seeds: str | None = None
    train_seeds: str | None = None
    only: tuple[str, ...] = ()
    reuse: tuple[Path, ...] = ()  # run directories, or folders of them, from which finished steps are taken
    again: bool = False  # a run resumes with its own recipe
    level: Level = "warning"  # the lowest level printed to standard error while steps run

    @property
    def is_sweep(self) -> bool:
        """Whether there are several runs, of which the first may be the only one."""
        return self.recipes.is_table or self.seeds is not None or self.train_seeds is not None

    @property
    def root(self) -> Path:
        """The run directory, or the folder of all runs."""
        name = self.recipes.name
        by_default = f"{name}-seeds" if self.is_sweep and not self.recipes.is_table else name
        return self.out or Path("runs") / by_default


@dataclass(frozen=True)
class Job:
    """One run of several."""

    recipe: Recipe
    out: Path


@dataclass(frozen=True)
class Outcome:
    """The result of ``start``: one run, or several with a comparison. ``is_whole`` unless it stopped at ``--to``."""

    root: Path
    is_whole: bool
    comparison: Comparison | None = None


def start(asked: Invocation, log: Callable[[str], None]) -> Outcome:
    """Run one recipe, or all of a table and of several seeds, which are then compared.

    Raises:
        LtgcError: of the kind that says what went wrong; complete steps are kept.
    """
    if asked.from_step and asked.reuse:
        raise RecipeError("--from does a step again, and --reuse takes it from elsewhere; give one of them")
    for folder in asked.reuse:
        if not find_runs(folder):
            raise RecipeError(f"--reuse {folder}: no run directory there, nor in the folders under it")
    check_steps(asked)
    if asked.is_sweep:
        root = asked.root
        seeds = parse_seeds(asked.seeds) if asked.seeds is not None else None
        train_seeds = parse_seeds(asked.train_seeds, "--train-seeds") if asked.train_seeds is not None else None
        jobs = list_jobs(asked.recipes, root, seeds, asked.only, train_seeds)
        if asked.recipes.is_table:
            write_row_order(root, list(asked.recipes.rows))
        run_jobs(jobs, root, asked, log)
        if asked.to_step and not all(RunDirectory(job.out).manifest("evaluate") for job in jobs):
            return Outcome(root, is_whole=False)
        return Outcome(root, is_whole=True, comparison=write_comparisons(root))
    list_jobs(asked.recipes, Path(), only=asked.only)  # refuses rows of what has none
    out, recipe = asked.root, asked.recipes.rows[asked.recipes.name]
    others = list_others(out, asked.reuse)
    request = Request(
        recipe, out, asked.command, asked.from_step, asked.to_step, others, again=asked.again, level=asked.level
    )
    run_pipeline(request, log)
    return Outcome(out, is_whole=not asked.to_step or RunDirectory(out).manifest("report") is not None)


def recipes_of_run(root: Path) -> Recipes:
    """Return the recipe of a run directory, as if its file had been named.

    Raises:
        ArtefactError: it is damaged.
    """
    recipe = read_run_recipe(root)
    return Recipes(recipe.name, {recipe.name: recipe}, is_table=False)


def check_steps(asked: Invocation) -> None:
    """Refuse ``--from`` or ``--to`` with a step that none of the chosen rows has.

    Raises:
        RecipeError: with the names of the steps.
    """
    chosen = [recipe for row, recipe in asked.recipes.rows.items() if not asked.only or row in asked.only]
    for step in filter(None, (asked.from_step, asked.to_step)):
        problems = []
        for recipe in chosen:
            try:
                match_steps(build_plan(recipe), step)
            except RecipeError as problem:
                problems.append(problem)
        if problems and len(problems) == len(chosen):
            raise problems[0]


def write_comparisons(root: Path) -> Comparison:
    """Compare all runs in a folder, and write the comparison there in every format."""
    comparison = compare_runs([root], COMPARISONS)
    for kind, suffix in FORMATS.items():
        write_atomically(Text("comparison", write_comparison(comparison, kind)), root / f"comparison.{suffix}")
    return comparison


def parse_seeds(text: str, option: str = "--seeds") -> tuple[int, ...]:
    """Return the seeds: "0,1,2" names them, and "3" means the first three.

    Raises:
        RecipeError: it is neither, or a seed or the number of seeds is too large.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    shown = text if len(text) <= SHOWN_SEEDS else f"{text[:SHOWN_SEEDS]}…"
    expected = f"{option} {shown}: expected seeds such as 0,1,2, or how many, such as 3; at most {MAX_SEEDS}"
    if not words or not all(word.isascii() and word.isdecimal() for word in words):
        raise RecipeError(expected)
    # Numbers of more digits are not made from text at all: Python refuses beyond 4,300.
    numbers = [int(word) if len(word.lstrip("0")) <= len(str(MAX_SEED)) else MAX_SEED + 1 for word in words]
    if max(numbers) > MAX_SEED and "," in text:
        raise RecipeError(f"{option} {shown}: a seed is {MAX_SEED} at most")
    seeds = tuple(dict.fromkeys(numbers)) if "," in text else range(numbers[0])
    if not 1 <= (len(seeds) if "," in text else numbers[0]) <= MAX_SEEDS:
        raise RecipeError(expected)
    return tuple(seeds)


def list_jobs(
    recipes: Recipes,
    out: Path,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
    train_seeds: Sequence[int] | None = None,
) -> tuple[Job, ...]:
    """Return the runs, seed by seed, so that a first whole table is complete early.

    Args:
        seeds: None takes each recipe's own.
        only: the rows of a table to run; all unless given.
        train_seeds: of the training, each with each of ``seeds``; None takes each recipe's own.

    Raises:
        RecipeError: the table has no such row, or the recipe is not a table.
    """
    unknown = [row for row in only if not recipes.is_table or row not in recipes.rows]
    if unknown:
        there = f"rows: {', '.join(recipes.rows)}" if recipes.is_table else "this recipe is no table and has no rows"
        raise RecipeError(f"--row {unknown[0]}: no such row; {there}")
    chosen = {row: recipe for row, recipe in recipes.rows.items() if not only or row in only}
    changes: list[dict[str, int]] = [
        {key: number for key, number in (("seed", seed), ("train_seed", train_seed)) if number is not None}
        for seed in (seeds if seeds is not None else (None,))
        for train_seed in (train_seeds if train_seeds is not None else (None,))
    ]
    jobs = []
    for change in changes:
        for row, recipe in chosen.items():
            seeded = recipe.model_copy(update=change)
            training = "" if seeded.train_seed is None else f"-train-{seeded.train_seed}"
            folder = out / row if recipes.is_table else out
            jobs.append(Job(seeded, folder / f"seed-{seeded.seed}{training}"))
    return tuple(jobs)


def run_jobs(jobs: Sequence[Job], root: Path, asked: Invocation, log: Callable[[str], None]) -> None:
    """Run every job that is not complete; stop at the first failure, and resume there when called again."""
    if asked.from_step is not None:
        _supersede(jobs, asked.from_step, log)
    outs = [job.out for job in jobs]
    # A row that is not redone must not supply what is redone.
    others = () if asked.from_step is not None else list_others(root, (root, *asked.reuse))
    requests = []
    for job in jobs:
        reuse = tuple(run for run in dict.fromkeys([*outs, *others]) if run != job.out)
        request = Request(job.recipe, job.out, asked.command, None, asked.to_step, reuse, level=asked.level)
        name = job.out.relative_to(root)
        requests.append((request, lambda line, name=name: log(f"{name}: {line}")))
    run_all(requests)


def list_others(out: Path, folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the run directories in ``folders`` but ``out`` itself."""
    runs = dict.fromkeys(run for folder in folders for run in find_runs(folder))
    return tuple(run for run in runs if run.resolve() != out.resolve())


def _supersede(jobs: Sequence[Job], from_step: str, log: Callable[[str], None]) -> None:
    """Put away what ``--from`` redoes in all runs before any starts: else one run would take it from another."""
    for job in jobs:
        steps, run = build_plan(job.recipe), RunDirectory(job.out)
        try:
            redone = with_dependents(steps, match_steps(steps, from_step))
        except RecipeError:  # a row without that step shares nothing that is redone
            continue
        if run.root.is_dir():
            with run.locked(log):
                run.supersede(redone)
