"""What a run is made from: the models and what they prove, and how long every step took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.schemas import ModelFile

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
READS = "reads "  # the prefix of a fingerprint's keys for the step's inputs


@dataclass(frozen=True)
class Evidence:
    """What the figures are worth; ``level`` is that of the weakest model."""

    level: str  # a key of WORTH, or "unknown"
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
        """Items per second, including start-up and loading; None if the step is one item."""
        return self.items / self.wall_seconds if self.items > 1 and self.wall_seconds else None


def judge_evidence(models: Mapping[str, ModelFile]) -> Evidence:
    """Say what figures made by these models, given by role, prove."""
    for level, worth in WORTH.items():
        roles = [ROLE_NAMES.get(role, role) for role, model in models.items() if model.evidence == level]
        if roles:
            head, last = ", ".join(roles[:-1]), roles[-1]
            whose = f"The {head} and {last} are" if head else f"The {last} is"
            whose = "All models are" if len(roles) == len(models) else whose
            scratch = any(model.evidence == "scratch" for model in models.values()) and level != "scratch"
            return Evidence(level, f"{whose} {worth}" + (f" The networks are {WORTH['scratch']}" if scratch else ""))
    return Evidence("unknown", "The run has no provenance, so it is not known what the models are worth.")


def list_steps(run: RunDirectory, reads: Sequence[str]) -> tuple[str, ...]:
    """Return the steps that ``reads`` depend on, each after its inputs.

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
