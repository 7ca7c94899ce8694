"""Run a recipe: what is complete is skipped, what is missing is run, what was made otherwise is an error."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltgc_local import __version__
from ltgc_local.artefacts.directory import RunDirectory
from ltgc_local.artefacts.files import Json, write_atomically
from ltgc_local.corpora import Corpus, open_corpus
from ltgc_local.errors import ArtefactError
from ltgc_local.launch.gpus import join_gpus, share_gpus, visible_gpus
from ltgc_local.launch.local import run_workers
from ltgc_local.plan import build_plan, match_steps, with_dependents
from ltgc_local.recipe import Recipe
from ltgc_local.run.fingerprint import check_fingerprint, fingerprint
from ltgc_local.run.reuse import find_finished, take_step
from ltgc_local.steps import SHARDED, TEXT_ROLES, TOGETHER, Role, Step
from ltgc_local.store import ModelCard, check_model_folder, digest_folder, find_card, model_folder

PACKAGES = (
    "torch", "torchvision", "transformers", "diffusers", "accelerate", "open_clip_torch", "peft", "bitsandbytes",
    "timm", "datasets", "numpy", "pillow",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What the user asked for: a recipe, where the run goes, which part, and the command that says it again."""

    recipe: Recipe
    out: Path
    command: str
    from_step: str | None = None
    to_step: str | None = None
    reuse: tuple[Path, ...] = ()  # run directories from which finished steps of equal fingerprint are taken
    root: Path | None = None  # what ``--out`` means to ``command``: of a table the folder of all its runs


def run_pipeline(request: Request, log: Callable[[str], None]) -> None:
    """Run the recipe's steps in order, each in processes of its own.

    Raises:
        LtgcError: of the kind of what went wrong; what was complete stays.
    """
    recipe, run = request.recipe, RunDirectory(request.out)
    steps = build_plan(recipe)
    last = max(map([s.name for s in steps].index, match_steps(steps, request.to_step))) if request.to_step else None
    steps_to_run = steps if last is None else steps[: last + 1]
    redone = with_dependents(steps, match_steps(steps, request.from_step)) if request.from_step else []
    with run.locked():
        cards = {role: find_card(recipe.models.cards, getattr(recipe.models, role), role) for role in recipe.roles}
        corpus = open_corpus(recipe.data)
        for key, select in recipe.selections.items():
            corpus.check_selection(select, key)
        digests = _digests(corpus, cards, run)
        run.supersede(redone)
        begun = False
        for step in steps_to_run:
            wanted = fingerprint(step, recipe, run, digests)
            if check_fingerprint(step, wanted, run, request.command, request.root):
                continue
            if not begun:  # folders are listed once a command, and only where there is something left to do
                corpus.check_images_are_there()
                begun = True
            _write_provenance(request, cards, digests)
            source = find_finished(step, wanted, request.reuse)
            if source is not None:
                take_step(step.name, source, run)
                log(f"{step.name}: taken from {source.root}")
                continue
            start = time.monotonic()
            log(f"{step.name} …")
            run_workers(run.root, step.name, _environments(step, recipe, cards))
            num_chunks = int((run.folder(step.name) / "num_chunks").read_text())
            run.write_manifest(step.name, fingerprint(step, recipe, run, digests), num_chunks, _wall(start))
            log(f"{step.name}: {_facts(run, step)}")
        if steps_to_run == steps:
            shutil.rmtree(run.decoded, ignore_errors=True)  # of ImageNet-LT 17 GB, and of no use any more


def status(recipe: Recipe, out: Path) -> list[tuple[str, str]]:
    """Return (step, state) of every step: ``complete``, ``n chunks``, ``-``."""
    run = RunDirectory(out)
    states = []
    for step in build_plan(recipe):
        chunks = len(run.complete_chunks(step.name))
        states.append(
            (step.name, _facts(run, step) if run.manifest(step.name) else f"{chunks} chunks" if chunks else "-")
        )
    return states


def read_run_recipe(out: Path) -> Recipe:
    """Return the recipe that a run directory was made from.

    Raises:
        ArtefactError: there is none, or it is damaged or another version's.
    """
    path = out / "recipe.json"
    if not path.is_file():
        raise ArtefactError(
            f"{path}: not there; {out} is no run directory (ltgc-local run RECIPE --out {out} makes one)"
        )
    try:
        return Recipe.model_validate_json(path.read_text("utf-8"))
    except ValueError as problem:
        words = str(problem).splitlines()[0]
        raise ArtefactError(f"{path}: damaged, or of another version of ltgc-local ({words})") from None


def _environments(step: Step, recipe: Recipe, cards: Mapping[Role, ModelCard]) -> list[dict[str, str]]:
    """Return what each of the step's workers has in its environment: one entry a worker."""
    models, role = recipe.models, step.model_role
    gpus = [] if models.device == "cpu" else visible_gpus()
    if step.stage in TOGETHER:
        return join_gpus(gpus, models.workers)
    if step.stage not in SHARDED or role is None:
        return [{}]
    each = (models.tensor_parallel or cards[role].tensor_parallel or 1) if role in TEXT_ROLES else 1
    return share_gpus(gpus, models.workers, each)


def _digests(corpus: Corpus, cards: Mapping[Role, ModelCard], run: RunDirectory) -> dict[str, str]:
    """Return digests of the data and of each role's folder; a folder's is kept until a file's size or time changes."""
    digests = {"data": corpus.digest()}
    path = run.root / "model_digests.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for role, card in cards.items():
        folder = model_folder(card)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        stamp = hashlib.sha256(
            repr([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]).encode()
        ).hexdigest()
        if known.get(role, {}).get("stamp") != stamp:
            check_model_folder(card)
            known[role] = {"stamp": stamp, "digest": digest_folder(folder)}
            write_atomically(Json("model_digests", known), path)
        digests[role] = known[role]["digest"]
    return digests


def _write_provenance(request: Request, cards: Mapping[Role, ModelCard], digests: dict[str, str]) -> None:
    """Write the resolved recipe and what this run is made of and on."""
    root = request.out
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    provenance = {
        "ltgc_local": __version__,
        "date": time.strftime("%Y-%m-%d"),
        "command": request.command,
        "seed": request.recipe.seed,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": versions,
        "data_digest": digests["data"],
        "models": {
            role: {"card": card.name, "evidence": card.evidence, "licence": card.licence, "digest": digests[role]}
            for role, card in cards.items()
        }
        | _untrained(request.recipe),
    }
    write_atomically(Json("provenance", provenance), root / "provenance.json")
    write_atomically(Json("recipe", request.recipe.dump()), root / "recipe.json")


def _untrained(recipe: Recipe) -> dict[str, Any]:
    """Return what TGN's networks start from where no card names weights: random numbers, which the report must say."""
    if recipe.method != "tgn" or recipe.models.backbone is not None:
        return {}
    names = dict.fromkeys((recipe.kmdn.architecture, recipe.classifier.architecture))
    return {"backbone": {"card": ", ".join(names), "evidence": "scratch", "licence": "", "digest": ""}}


def _facts(run: RunDirectory, step: Step) -> str:
    manifest = run.manifest(step.name) or {}
    return (
        f"{manifest.get('items', 0)} items, {manifest.get('wall_seconds', 0):.1f} s, {manifest.get('peak_mib', 0)} MiB"
    )


def _wall(start: float) -> float:
    return round(time.monotonic() - start, 2)
