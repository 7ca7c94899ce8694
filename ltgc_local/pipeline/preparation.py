"""Before a run's first step: its data and models are looked at, and what it is made from is written down."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ltgc_local import __version__
from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.errors import ArtefactError
from ltgc_local.methods.registry import method_of
from ltgc_local.model_store.cards import ModelCard, Role, find_card
from ltgc_local.model_store.files import digest_folder, model_files
from ltgc_local.model_store.folders import check_model_folder, model_folder
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.disk import RECIPE
from ltgc_local.runs.logs import Level
from ltgc_local.runs.provenance import (
    PROVENANCE,
    read_provenance_file,
    read_run_recipe,
    write_provenance_file,
    write_run_recipe,
)
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


@dataclass(frozen=True)
class Inputs:
    """What a run starts from.

    Attributes:
        digests: of the data (key ``data``) and of each role's model folder.
    """

    corpus: Corpus
    cards: Mapping[Role, ModelCard]
    digests: dict[str, str]

    def model_bytes(self) -> dict[Role, int]:
        """Return the size of each role's files."""
        return {
            role: sum(file.stat().st_size for file in model_files(model_folder(card)))
            for role, card in self.cards.items()
        }


def look_at_inputs(request: Request) -> Inputs:
    """Open the data and compute digests of them and of the models.

    Raises:
        LtgcError: something is missing or damaged.
    """
    recipe, run = request.recipe, RunDirectory(request.out)
    _take_digests(request)
    cards = {role: find_card(recipe.models.cards, getattr(recipe.models, role), role) for role in recipe.roles}
    corpus = open_corpus(recipe.data)
    for key, (value, neutral) in recipe.selections.items():
        corpus.check_selection(value, key, neutral)
    return Inputs(corpus, cards, _digests(corpus, cards, run))


def prepare(request: Request, log: Callable[[str], None]) -> None:
    """Write down what a run is made from, so that workers anywhere can take part in it.

    Raises:
        LtgcError: something is missing or damaged, or a launcher runs there.
    """
    with RunDirectory(request.out).locked(log):
        inputs = look_at_inputs(request)
        inputs.corpus.check_images_are_there()
        write_facts(request, inputs)


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


def _take_digests(request: Request) -> None:
    """Copy another run's cache of model digests, so that large weights are hashed once per table."""
    path = request.out / "model_digests.json"
    known = next((run / path.name for run in request.reuse if (run / path.name).is_file()), None)
    if known is None or path.exists():
        return
    with suppress(ArtefactError):  # only a cache: a damaged one is not taken
        digests = read_sealed(known, ModelDigests, "")
        write_sealed(path, digests.model_dump() if digests is not None else {})


def _state(file: Path) -> tuple[int, ...]:
    facts = file.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino


def _known_digests(path: Path) -> dict[str, FolderDigest]:
    try:
        known = read_sealed(path, ModelDigests, "the models are read again")
    except ArtefactError:  # only a cache
        return {}
    return dict(known.root) if known is not None else {}


def mend_facts(request: Request, inputs: Inputs, log: Callable[[str], None]) -> None:
    """Rewrite a run's recipe and provenance if they are damaged: this command knows what they said."""
    if not any((request.out / name).exists() for name in (RECIPE, PROVENANCE)):
        return  # a new run
    for name, read in ((RECIPE, read_run_recipe), (PROVENANCE, read_provenance_file)):
        try:
            is_there = read(request.out) is not None
        except ArtefactError:
            log(f"{request.out / name}: damaged, and written again")
            is_there = False
        if not is_there:
            write_facts(request, inputs)


def write_facts(request: Request, inputs: Inputs) -> None:
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
        data_digest=inputs.digests["data"],
        models={
            role: ModelFile(card=card.name, evidence=card.evidence, license=card.license, digest=inputs.digests[role])
            for role, card in inputs.cards.items()
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
