"""Run a recipe: complete steps are skipped, missing ones are run, and ones made with other settings are an error."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ltgc_local import __version__
from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.errors import ArtefactError
from ltgc_local.methods.base import Step
from ltgc_local.methods.registry import method_of
from ltgc_local.model_store.cards import TEXT_ROLES, ModelCard, Role, find_card
from ltgc_local.model_store.files import digest_folder, model_files
from ltgc_local.model_store.folders import check_model_folder
from ltgc_local.pipeline.damage import check_what_is_read
from ltgc_local.pipeline.executors.gpus import distributed_environments, share_gpus, visible_gpus
from ltgc_local.pipeline.executors.local import run_workers
from ltgc_local.pipeline.fingerprint import check_fingerprint, fingerprint
from ltgc_local.pipeline.plan import build_plan, match_steps, with_dependents
from ltgc_local.pipeline.status import describe_change, describe_progress, read_progress
from ltgc_local.recipe import Recipe, TextModels
from ltgc_local.reporting.render import duration
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.disk import RECIPE, repair
from ltgc_local.runs.logs import Level
from ltgc_local.runs.progress import is_terminal
from ltgc_local.runs.provenance import (
    PROVENANCE,
    read_provenance_file,
    read_run_recipe,
    write_provenance_file,
    write_run_recipe,
)
from ltgc_local.runs.reuse import find_finished, take_step
from ltgc_local.runs.schemas import FolderDigest, ModelDigests, ModelFile, ProvenanceFile
from ltgc_local.runs.sealed import read_sealed, write_sealed

PACKAGES = (
    "torch", "torchvision", "transformers", "diffusers", "accelerate", "open_clip_torch", "peft", "bitsandbytes",
    "timm", "datasets", "numpy", "pillow",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What the user asked for: a recipe, the run directory, which steps, and the command that repeats the request."""

    recipe: Recipe
    out: Path
    command: str
    from_step: str | None = None
    to_step: str | None = None
    reuse: tuple[Path, ...] = ()  # run directories whose finished steps are taken where the fingerprint is equal
    again: bool = False  # the run resumes with its own recipe, so ``command`` is not what made it
    level: Level = "warning"  # the lowest level that a step's workers print to standard error
    only: tuple[str, ...] | None = None  # the steps to run, whose inputs are complete or among them; None runs all


def run_pipeline(request: Request, log: Callable[[str], None]) -> None:
    """Run the recipe's steps in order, each in processes of its own.

    Raises:
        LtgcError: of the kind that says what went wrong; complete steps are kept.
    """
    recipe, run = request.recipe, RunDirectory(request.out)
    steps = build_plan(recipe)
    last = max(map([s.name for s in steps].index, match_steps(steps, request.to_step))) if request.to_step else None
    steps_to_run = steps if last is None else steps[: last + 1]
    if request.only is not None:
        steps_to_run = tuple(step for step in steps if step.name in request.only)
    redone = with_dependents(steps, match_steps(steps, request.from_step)) if request.from_step else []
    with run.locked(log):
        cards = {role: find_card(recipe.models.cards, getattr(recipe.models, role), role) for role in recipe.roles}
        corpus = open_corpus(recipe.data)
        for key, select in recipe.selections.items():
            corpus.check_selection(select, key)
        digests = _digests(corpus, cards, run)
        run.supersede(redone)
        _mend_facts(request, cards, digests, log)
        check_what_is_read(steps_to_run, run)
        begun = False
        for step in steps_to_run:
            wanted = fingerprint(step, recipe, run, digests)
            if check_fingerprint(step, wanted, run):
                if not _must_be_made_again(step, run, log):
                    if changed := describe_change(run, step.name):
                        log(f"{step.name}: complete; {changed}; {repair(run.root)}")
                    continue
                run.reopen(step.name)
            if not begun:  # folders are listed once per command, and only if something is left to do
                corpus.check_images_are_there()
                begun = True
                _write_facts(request, cards, digests)
            # A report prints its own run's recipe and provenance, which are in no fingerprint.
            source = None if step.is_report else find_finished(step.name, wanted, request.reuse)
            if source is not None:
                take_step(step.name, source, run)
                log(f"{step.name}: taken from {source.root}")
                continue
            start = time.monotonic()
            log(f"{step.name} …")
            beat = partial(_say_progress, run, step.name, start, log)
            run_workers(run.root, step.name, _environments(step, recipe, cards), request.level, beat)
            seconds = round(time.monotonic() - start, 2)
            made_from = fingerprint(step, recipe, run, digests)
            done = run.write_manifest(step.name, made_from, count_chunks(step, run), seconds)
            log(f"{step.name}: {done.items} items, {seconds:.1f} s, {done.peak_mib} MiB")
        if steps_to_run == steps:
            shutil.rmtree(run.decoded, ignore_errors=True)  # no longer needed; 17 GB for ImageNet-LT


def _must_be_made_again(step: Step, run: RunDirectory, log: Callable[[str], None]) -> bool:
    """Return whether a report's files are damaged or gone: no step reads them, so nothing else would notice."""
    if not step.is_report:
        return False
    damaged = run.find_damage(step.name)
    if damaged:
        log(f"{damaged[0][0]}: {damaged[0][1]}; making it again")
    return bool(damaged)


def count_chunks(step: Step, run: RunDirectory) -> int:
    """Return how many chunks a step has: those of its plan, or one if its stage makes all files at once."""
    return run.num_chunks(step.name) if step.stage.parallel == "chunks" else 1


def make_report_again(out: Path, log: Callable[[str], None]) -> None:
    """Make the report of a measured run again where it is damaged or gone.

    Raises:
        LtgcError: of the kind that says what went wrong.
    """
    recipe, run = read_run_recipe(out), RunDirectory(out)
    steps = {step.name: step for step in build_plan(recipe)}
    report = next(step for step in steps.values() if step.is_report)
    if any(run.manifest(name) is None for name in report.reads):
        return
    if run.manifest(report.name) is None or run.find_damage(report.name):
        run_pipeline(Request(recipe, out, shlex.join(["ltgc-local", "run", str(out)]), again=True), log)


def _environments(step: Step, recipe: Recipe, cards: Mapping[Role, ModelCard]) -> list[dict[str, str]]:
    """Return the environment variables of each of the step's workers."""
    models, role = recipe.models, step.model_role
    gpus = [] if models.device == "cpu" else visible_gpus()
    if step.stage.parallel == "distributed":
        return distributed_environments(gpus, models.workers)
    if step.stage.parallel != "chunks" or role is None:
        return [{}]
    each = 1
    if role in TEXT_ROLES and isinstance(models, TextModels):
        each = models.tensor_parallel or cards[role].tensor_parallel or 1
    return share_gpus(gpus, models.workers, each)


def _digests(corpus: Corpus, cards: Mapping[Role, ModelCard], run: RunDirectory) -> dict[str, str]:
    """Return digests of the data and of each role's folder; a changed folder is hashed again."""
    digests = {"data": corpus.digest()}
    path = run.root / "model_digests.json"
    known = _known_digests(path)
    for role, card in cards.items():
        folder = check_model_folder(card, hash_files=False)
        stamp = hashlib.sha256(repr([(str(f), _state(f)) for f in model_files(folder)]).encode()).hexdigest()
        if role not in known or known[role].stamp != stamp:
            check_model_folder(card)
            known[role] = FolderDigest(stamp=stamp, digest=digest_folder(folder))
            write_sealed(path, {role: found.model_dump() for role, found in known.items()})
        digests[role] = known[role].digest
    return digests


def _state(file: Path) -> tuple[int, ...]:
    facts = file.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino


def _known_digests(path: Path) -> dict[str, FolderDigest]:
    try:
        known = read_sealed(path, ModelDigests, "the models are read again")
    except ArtefactError:  # only a cache
        return {}
    return dict(known.root) if known is not None else {}


def _mend_facts(
    request: Request, cards: Mapping[Role, ModelCard], digests: dict[str, str], log: Callable[[str], None]
) -> None:
    """Rewrite a run's recipe and provenance if they are damaged: this command knows what they said."""
    if not any((request.out / name).exists() for name in (RECIPE, PROVENANCE)):
        return  # a new run
    for read in (read_run_recipe, read_provenance_file):
        try:
            is_there = read(request.out) is not None
        except ArtefactError as problem:
            log(f"{problem} (written again)")
            is_there = False
        if not is_there:
            _write_facts(request, cards, digests)


def _write_facts(request: Request, cards: Mapping[Role, ModelCard], digests: dict[str, str]) -> None:
    """Write the resolved recipe, and what this run was made with and where."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    names = method_of(request.recipe).untrained(request.recipe)  # they start at random: the report must say so
    scratch = ModelFile(card=", ".join(names), evidence="scratch", license="", digest="")
    untrained = {"backbone": scratch} if names else {}
    provenance = ProvenanceFile(
        ltgc_local=__version__,
        date=time.strftime("%Y-%m-%d"),
        command=_made_by(request),
        seed=request.recipe.seed,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        packages=versions,
        data_digest=digests["data"],
        models={
            role: ModelFile(card=card.name, evidence=card.evidence, license=card.license, digest=digests[role])
            for role, card in cards.items()
        }
        | untrained,
    )
    write_run_recipe(request.out, request.recipe)
    write_provenance_file(request.out, provenance)


def _made_by(request: Request) -> str:
    """Return the command that made the run, which a run that resumes with its own recipe has recorded."""
    if request.again:
        try:
            found = read_provenance_file(request.out)
        except ArtefactError:
            found = None
        if found is not None:
            return found.command
    return request.command


def _say_progress(run: RunDirectory, step: str, start: float, log: Callable[[str], None]) -> None:
    """Log a step's progress where no terminal shows a bar."""
    if is_terminal():
        return
    progress, seconds = read_progress(run.folder(step)), time.monotonic() - start
    words = describe_progress(progress, seconds) if progress is not None else f"starting for {duration(seconds)}"
    log(f"{step}: {words}")
