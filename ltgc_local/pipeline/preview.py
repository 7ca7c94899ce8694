"""What the command line prints of a plan and of a finished run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ltgc_local.backends.choice import backend_of, reason_of
from ltgc_local.datasets import open_corpus
from ltgc_local.datasets.groups import SHOTS, shot_of
from ltgc_local.errors import ArtefactError, ModelError
from ltgc_local.methods.registry import METHODS, method_of
from ltgc_local.model_store import ModelCard, NoWeightsError, check_model_folder, find_card
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe
from ltgc_local.recipe.schema import DEFAULT_METHOD
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.provenance import read_settings
from ltgc_local.runs.schemas import Metrics

SHOWN_CLASSES = 20  # in the text of a plan; the JSON has them all
ARM_TITLES = {
    "zero_shot": "CLIP zero-shot",
    "vlm_zero_shot": "vlm asked for the class (a sample)",
    "control": "the same, no generated data",
}


def plan_as_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the steps, the models and the number of images to draw a class."""
    corpus = open_corpus(recipe.data)
    counts = corpus.class_counts()
    wanted = method_of(recipe).budget(corpus, recipe)
    to_draw = {corpus.class_names[class_id]: number for class_id, number in wanted.items()}
    cards = {role: find_card(recipe.models.cards, getattr(recipe.models, role), role) for role in recipe.roles}
    return {
        "method": recipe.method,
        "images": {"train": len(corpus.train), "val": len(corpus.val), "test": len(corpus.test)},
        "val_is_test": corpus.val_is_test,
        "classes": {shot: sum(shot_of(n) == shot for n in counts.values()) for shot in SHOTS},
        "models": {
            role: {
                "card": card.name,
                "evidence": card.evidence,
                "backend": backend_of(role, recipe),
                "note": reason_of(role, recipe),
                "problem": _problem_of(card),
            }
            for role, card in cards.items()
        },
        "to_draw": to_draw,
        "num_to_draw": sum(to_draw.values()),
        "steps": [
            {"name": s.name, "model": s.model_role, "beside": s.beside, "reads": list(s.reads)}
            for s in build_plan(recipe)
        ],
    }


def plan_as_text(recipe: Recipe) -> str:
    """Return the plan for people."""
    plan = plan_as_dict(recipe)
    width = max(len(step["name"]) for step in plan["steps"])
    models = ["+".join(filter(None, (step["model"], step["beside"]))) or "-" for step in plan["steps"]]
    roles = max(map(len, models))
    lines = [
        f"{recipe.name}: {plan['method']} on {recipe.data.benchmark}, seed {recipe.seed}",
        f"{plan['images']['train']} training images; classes: "
        + ", ".join(f"{n} {s}" for s, n in plan["classes"].items()),
        *(["val is the test split: settings are fixed beforehand, not chosen on it"] if plan["val_is_test"] else []),
        f"to generate: {plan['num_to_draw']} images ({_drawn_by_class(plan['to_draw'])})",
        *(
            f"{role}: {model['card']} ({model['evidence']}, {model['backend']})"
            + (model["note"] and f": {model['note']}")
            for role, model in plan["models"].items()
        ),
        *(f"cannot run yet: {model['problem']}" for model in plan["models"].values() if model["problem"]),
        *(f"memory: {note}" for note in notes_of_memory(recipe)),
        "",
        *(
            f"{s['name']:{width}}  {model:{roles}}  reads {', '.join(s['reads']) or 'data'}"
            for s, model in zip(plan["steps"], models, strict=True)
        ),
    ]
    return "\n".join(lines)


def _problem_of(card: ModelCard) -> str:
    """Return why a card's weights cannot be loaded (not there, cut short, another model's), or ""; hashes nothing."""
    try:
        check_model_folder(card, hash_files=False)
    except ModelError as problem:
        return str(problem)
    return ""


def notes_of_memory(recipe: Recipe) -> list[str]:
    """Return which models are in memory together, and how large their cards say they are; mostly nothing."""
    pairs = dict.fromkeys((s.model_role, s.beside) for s in build_plan(recipe) if s.model_role and s.beside)
    notes = []
    for roles in pairs:
        try:
            cards = [find_card(recipe.models.cards, getattr(recipe.models, role), role) for role in roles if role]
        except ModelError:  # problems_of_models says it
            continue
        sizes = [f"{c.parameters_millions:g} million" if c.parameters_millions else "unstated" for c in cards]
        both = " and ".join(f"{role} ({size} parameters)" for role, size in zip(roles, sizes, strict=True))
        notes.append(f"{both} are loaded together, by draw.clip_features")
    return notes


def problems_of_models(recipe: Recipe) -> tuple[list[str], list[str]]:
    """Return what of a recipe's models is not on this machine yet, and what is wrong with cards or weights that are."""
    missing, wrong = [], []
    for role in recipe.roles:
        try:
            check_model_folder(find_card(recipe.models.cards, getattr(recipe.models, role), role), hash_files=False)
        except NoWeightsError as problem:
            missing.append(str(problem))
        except ModelError as problem:
            wrong.append(str(problem))
    return missing, wrong


def _drawn_by_class(to_draw: dict[str, int]) -> str:
    if len(to_draw) <= SHOWN_CLASSES:
        return ", ".join(f"{n} {name}" for name, n in to_draw.items())
    return f"{min(to_draw.values())} to {max(to_draw.values())} for each of {len(to_draw)} tail classes"


def metrics_as_text(out: Path) -> str:
    """Return a finished run's table: percent by arm and group.

    Raises:
        ArtefactError: the run has not been evaluated.
    """
    run = RunDirectory(out)
    if not (out / "recipe.json").is_file():
        raise ArtefactError(f"{out}: no run directory; of a folder of runs, type: ltgc-local compare {out}")
    settings = read_settings(out)
    if run.manifest("evaluate") is None:
        raise ArtefactError(f"{out}: not evaluated yet; type: ltgc-local status {out}")
    metrics = run.checked("evaluate", "metrics", Metrics).root
    name = str(settings.get("method", DEFAULT_METHOD))
    if name not in METHODS:
        raise ArtefactError(f"{out}: made by a method that is not here, {name!r}; there are {', '.join(METHODS)}")
    method = METHODS[name].report
    columns = method.groups
    lines = [f"{'percent of test images':36}" + "".join(f"{column:>8}" for column in columns)]
    titles = ARM_TITLES | {method.name: method.title(settings)}
    for arm, measured in metrics.items():
        cells = "".join(_cell(measured.of(column)) for column in columns)
        lines.append(f"{titles.get(arm, arm):36}{cells}")
    page = out / "report" / "report.html"
    there = str(page) if page.is_file() else f"not made yet; type: {shlex.join(['ltgc-local', 'run', str(out)])}"
    return "\n".join([*lines, f"report: {there}"])


def _cell(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{value:8.1f}"
