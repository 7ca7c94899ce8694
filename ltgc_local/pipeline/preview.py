"""What is known about a recipe before it runs, and about a finished run: values that ``cli`` turns into words."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltgc_local.backends.registry import backend_of, reason_of
from ltgc_local.datasets import open_corpus
from ltgc_local.datasets.groups import SHOTS, shot_of
from ltgc_local.errors import ArtefactError, ModelError
from ltgc_local.methods.registry import METHODS, method_of
from ltgc_local.model_store.cards import ModelCard, find_card
from ltgc_local.model_store.folders import NoWeightsError, check_model_folder
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe
from ltgc_local.recipe.schema import DEFAULT_METHOD
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.provenance import read_settings
from ltgc_local.runs.schemas import Metrics


@dataclass(frozen=True)
class Figures:
    """A finished run's accuracies in percent, per arm in the order of ``groups``; None for a group without classes."""

    root: Path
    method: str  # the method's own arm
    title: str  # of that arm
    groups: tuple[str, ...]
    arms: dict[str, list[float | None]]
    report: Path | None  # None if it was not made, or removed


def plan_as_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the steps, the models and the number of images to generate per class."""
    corpus = open_corpus(recipe.data)
    counts = corpus.class_counts()
    wanted = method_of(recipe).budget(corpus, recipe)
    to_draw = {corpus.class_names[class_id]: number for class_id, number in wanted.items()}
    cards = {role: find_card(recipe.models.cards, getattr(recipe.models, role), role) for role in recipe.roles}
    return {
        "name": recipe.name,
        "method": recipe.method,
        "benchmark": recipe.data.benchmark,
        "seed": recipe.seed,
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
        "memory": notes_of_memory(recipe),
        "to_draw": to_draw,
        "num_to_draw": sum(to_draw.values()),
        "steps": [
            {"name": s.name, "model": s.model_role, "co_resident": s.co_resident, "reads": list(s.reads)}
            for s in build_plan(recipe)
        ],
    }


def _problem_of(card: ModelCard) -> str:
    """Return why a card's weights cannot be loaded (missing, cut short, of another model), or ""; hashes nothing."""
    try:
        check_model_folder(card, hash_files=False)
    except ModelError as problem:
        return str(problem)
    return ""


def notes_of_memory(recipe: Recipe) -> list[str]:
    """Return which models are in memory together, with their sizes by their cards; usually none are."""
    pairs = dict.fromkeys((s.model_role, s.co_resident) for s in build_plan(recipe) if s.model_role and s.co_resident)
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
    """Return which of a recipe's models are missing on this machine, and what is wrong with the others."""
    missing, wrong = [], []
    for role in recipe.roles:
        try:
            check_model_folder(find_card(recipe.models.cards, getattr(recipe.models, role), role), hash_files=False)
        except NoWeightsError as problem:
            missing.append(str(problem))
        except ModelError as problem:
            wrong.append(str(problem))
    return missing, wrong


def read_figures(out: Path) -> Figures:
    """Return the accuracies of a finished run.

    Raises:
        ArtefactError: the run has not been evaluated.
    """
    run, place = RunDirectory(out), shlex.quote(str(out))
    if not (out / "recipe.json").is_file():
        raise ArtefactError(f"{out}: no run directory; for a folder of runs, type: ltgc-local compare {place}")
    settings = read_settings(out)
    if run.manifest("evaluate") is None:
        raise ArtefactError(f"{out}: not evaluated yet; type: ltgc-local status {place}")
    metrics = run.checked("evaluate", "metrics", Metrics).root
    name = str(settings.get("method", DEFAULT_METHOD))
    if name not in METHODS:
        raise ArtefactError(f"{out}: made by an unknown method, {name!r}; known are {', '.join(METHODS)}")
    method = METHODS[name].report
    arms = {arm: [measured.of(group) for group in method.groups] for arm, measured in metrics.items()}
    page = out / "report" / "report.html"
    report = page if page.is_file() else None
    return Figures(out, method.name, method.title(settings), method.groups, arms, report)
