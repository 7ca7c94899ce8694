"""Schemas of a run directory's JSON files: nothing in a received run is used before it fits one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, RootModel

from ltgc_local.regular_files import MAX_JSON_BYTES

#: A file of a step: never a path, so it cannot be outside the step's folder.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*\.[a-z]+$", max_length=200)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class RunFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FileFacts(RunFile):
    """Size and digest of a file when it was written."""

    bytes: Count
    sha256: Digest


class Costs(RunFile):
    """What some work took.

    Attributes:
        cpu_seconds: of all cores, of the worker and the processes that it started; loading models included.
        gpu_seconds: of each GPU that the worker held, whether it was busy or not.
        gpu_joules: of these GPUs, by the driver's own counter; None where it does not tell, or where a part is unknown.
        tokens_read: in prompts, by language models.
        tokens_written: in their replies.
        images: that were generated, or, of a step that chooses among them, that were kept.
        bytes: of the files that were written.
    """

    cpu_seconds: Seconds = 0.0
    gpu_seconds: Seconds = 0.0
    gpu_joules: Seconds | None = None
    tokens_read: Count = 0
    tokens_written: Count = 0
    images: Count = 0
    bytes: Count = 0


class Chunk(RunFile):
    """``<step>/chunks/00000.json``: the chunk is complete."""

    files: dict[FileName, FileFacts]
    items: Count
    seconds: Seconds
    peak_mib: Count
    costs: Costs | None = None


class PlannedChunk(RunFile):
    """A chunk's line of ``<step>/chunks/plan.jsonl``."""

    offset: Annotated[int, Field(ge=0, lt=2**53)]
    bytes: Annotated[int, Field(ge=0, le=MAX_JSON_BYTES)]
    items: Annotated[int, Field(ge=0, le=MAX_JSON_BYTES)]
    sha256: Digest


class ChunkPlanFile(RunFile):
    """``<step>/chunks/plan.json``: the step's chunks, in order."""

    chunks: list[PlannedChunk]


class Manifest(RunFile):
    """``<step>/manifest.json``: the step is complete; ``fingerprint`` is what it was made from."""

    step: str
    fingerprint: dict[str, Any]
    seconds: Seconds
    wall_seconds: Seconds
    peak_mib: Count
    items: Count
    files: dict[FileName, FileFacts]
    warnings: Annotated[list[Annotated[str, Field(max_length=2000)]], Field(max_length=100)] = []  # the method's
    costs: Costs | None = None
    taken_from: str | None = None  # the run that made it, if it was taken from another run


class ModelFile(RunFile):
    """One role of ``provenance.json``."""

    card: str
    evidence: str
    license: str = Field(
        validation_alias=AliasChoices("license", "licence")
    )  # runs made before the card key was renamed
    digest: str


class ProvenanceFile(RunFile):
    """``provenance.json``."""

    ltgc_local: str
    date: str
    command: str
    seed: int
    python: str
    machine: str
    packages: dict[str, str]
    data_digest: str
    models: dict[str, ModelFile]


class FolderDigest(RunFile):
    """A model folder's digest, and the stamp (names, sizes, times) of its files."""

    stamp: str
    digest: str


class ModelDigests(RootModel[dict[str, FolderDigest]]):
    """``model_digests.json``, by role."""


class TableOrder(RunFile):
    """``table.json``: the rows of a table, in their order."""

    rows: list[str]


class ArmMetrics(BaseModel):
    """One arm in ``evaluate/metrics.json``: percent by group and class, and whatever else was measured."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    all: float | None
    per_class: dict[str, float | None]

    def of(self, group: str) -> float | None:
        """Return the accuracy of a group; None if it has no classes."""
        value = self.model_dump(include={group}).get(group)
        return float(value) if isinstance(value, int | float) else None


class Metrics(RootModel[dict[str, ArmMetrics]]):
    """``evaluate/metrics.json``, by arm."""


Percent = Annotated[float, Field(ge=0, le=100)]
Ends = Annotated[list[float], Field(min_length=2, max_length=2)]


class CurveLead(RunFile):
    """How far a curve lies above another: in points, on rare classes, over what both reach on frequent ones."""

    points: float
    interval: Ends
    least: float
    between: Ends


class AtEqual(RunFile):
    """Two arms at the tau at which, on validation images, both do as well on frequent classes."""

    tau: float
    one: dict[str, Percent]
    other: dict[str, Percent]
    interval: dict[str, Ends | None]


class Versus(RunFile):
    """The method against one rival; None where there is nothing to compare, or nothing to choose by."""

    curve: CurveLead | None
    at_equal: AtEqual | None


class SideNames(RunFile):
    """What the rare and the frequent classes are called."""

    rare: str
    frequent: str


class Rivals(RunFile):
    """``evaluate/rivals.json``; empty where the classes are not rare and frequent ones."""

    sides: SideNames | None = None
    taus: list[float] = []
    curves: dict[str, dict[str, list[Percent]]] = {}
    tuned: dict[str, dict[str, float]] = {}
    versus: dict[str, Versus] = {}


class Verified(RootModel[dict[FileName, list[str | int]]]):
    """``<step>/verified.json``: file -> size, times, inode and sha256 when it was last found whole."""
