"""What the run is made of and on: models and what they prove, packages, and the time of every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.provenance import read_provenance_file

ROLE_NAMES = {
    "vlm": "vision-language model",
    "llm": "language model",
    "t2i": "text-to-image model",
    "clip": "CLIP",
    "backbone": "backbone",
}
#: Evidence -> what figures by such models prove, the weakest first.
WORTH = {
    "random": "randomly initialised. The figures mean nothing; they show only that the code runs.",
    "miniature": "miniature and in-domain, trained for this demonstration. The figures below show that the machinery "
    "works; they do not reproduce the paper's numbers.",
    "scratch": "trained from random weights, without pre-training. Do not compare the figures with the paper's, whose "
    "networks start from ImageNet's.",
    "real": "loaded with published weights.",
}
READS = "reads "  # how a fingerprint's keys for the step's inputs begin


@dataclass(frozen=True)
class ModelFacts:
    """One role's model, from its card."""

    role: str
    card: str
    evidence: str
    license: str
    digest: str


@dataclass(frozen=True)
class Evidence:
    """What the figures are worth; ``level`` is that of the weakest model."""

    level: str  # "real", "miniature", "random" or "unknown"
    text: str


@dataclass(frozen=True)
class Timing:
    """How long one step took."""

    step: str
    wall_seconds: float
    items: int
    peak_mib: int

    @property
    def rate(self) -> float | None:
        """Items a second, starting and loading included; None where the step is one item."""
        return self.items / self.wall_seconds if self.items > 1 and self.wall_seconds else None


@dataclass(frozen=True)
class Provenance:
    """What ``provenance.json`` says; empty where it is not there."""

    facts: Mapping[str, str]
    packages: Mapping[str, str]
    models: tuple[ModelFacts, ...]


def read_provenance(run: RunDirectory) -> Provenance:
    """Read the run's provenance."""
    found = read_provenance_file(run.root)
    if found is None:
        return Provenance({}, {}, ())
    models = tuple(
        ModelFacts(role, model.card, model.evidence, model.license, model.digest)
        for role, model in found.models.items()
    )
    facts = {key: str(value) for key, value in found.model_dump(exclude={"packages", "models"}).items()}
    return Provenance(facts, found.packages, models)


def judge_evidence(models: Sequence[ModelFacts]) -> Evidence:
    """Say what figures made by these models prove."""
    for level, worth in WORTH.items():
        roles = [ROLE_NAMES.get(model.role, model.role) for model in models if model.evidence == level]
        if roles:
            whose = "All models are" if len(roles) == len(models) else _listed(roles)
            scratch = any(model.evidence == "scratch" for model in models) and level != "scratch"
            return Evidence(level, f"{whose} {worth}" + (f" The networks are {WORTH['scratch']}" if scratch else ""))
    return Evidence("unknown", "The run has no provenance, so it is not known what the models are worth.")


def list_steps(run: RunDirectory, reads: Sequence[str]) -> tuple[str, ...]:
    """Return the complete steps that ``reads`` rest on, inputs before what reads them.

    Raises:
        ArtefactError: one is not complete.
    """
    begun: set[str] = set()

    def visit(names: Sequence[str]) -> Iterator[str]:
        for name in names:
            if name in begun:
                continue
            begun.add(name)
            manifest = run.manifest(name)
            if manifest is None:
                raise ArtefactError(f"{run.folder(name)}: step {name} is not complete, and the report reads it")
            yield from visit([key.removeprefix(READS) for key in manifest.fingerprint if key.startswith(READS)])
            yield name

    return tuple(visit(reads))


def read_timings(run: RunDirectory, steps: Sequence[str]) -> tuple[Timing, ...]:
    """Read the steps' manifests."""
    manifests = {step: run.manifest(step) for step in steps}
    return tuple(Timing(step, m.wall_seconds, m.items, m.peak_mib) for step, m in manifests.items() if m is not None)


def _listed(names: Sequence[str]) -> str:
    """Write "The a, b and c are"."""
    head, last = ", ".join(names[:-1]), names[-1]
    return f"The {head} and {last} are" if head else f"The {last} is"
