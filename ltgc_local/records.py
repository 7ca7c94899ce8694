"""The records that steps exchange in files. They are frozen, and carry keys instead of relying on order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

from ltgc_local.regular_files import parse_json

#: Increased whenever a record's meaning or fields change: artefacts of another version are not read.
RECORD_VERSION = 3

Shot = Literal["many", "medium", "few"]
Source = Literal["existing", "extended", "refined"]
Evidence = Literal["real", "miniature", "random"]


@dataclass(frozen=True)
class Record:
    """Base of the records in JSON lines."""

    def to_json(self) -> str:
        return json.dumps(vars(self), ensure_ascii=False)  # fields in their order; no record holds another

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Build from a parsed JSON object; lists become tuples."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Attempt(Record):
    """Base of the records about one description in one round, or about the image generated from it."""

    class_id: int
    description_id: int
    round: int

    @property
    def key(self) -> tuple[int, int, int]:
        return self.class_id, self.description_id, self.round


class Judgement(Attempt):
    """Base of the judgements of one generated image; not a dataclass, so that ``failed`` keeps its place in files."""

    failed: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        return not self.failed


@dataclass(frozen=True)
class Description(Attempt):
    """One sentence in Template 1 of a class: an image is generated from each.

    ``description_id`` counts from 0 within the class, existing ones first; a refinement keeps it and raises ``round``.
    """

    text: str
    source: Source
    image_key: str = ""  # the training image that an existing description describes


@dataclass(frozen=True)
class Rejected(Record):
    """A model's sentence, or part of a reply, that was not used, and why."""

    class_id: int
    text: str
    reason: str
    stage: str
    repeats: str = ""  # the accepted sentence that this one repeats, if that is the reason


@dataclass(frozen=True)
class Cut(Record):
    """A sentence that had more CLIP tokens than allowed, before and after it was cut."""

    class_id: int
    before: str
    after: str  # "" if no beginning of it fits as a description
    stage: str


@dataclass(frozen=True)
class Exchange(Record):
    """A prompt and its reply, verbatim."""

    stage: str
    key: tuple[int | str, ...]
    prompt: str
    reply: str


@dataclass(frozen=True)
class ClassTemplate(Record):
    """C_y, the class feature template that images are scored against (Prompt 4 in Template 2)."""

    class_id: int
    text: str
    fallback: bool  # the model gave no usable template: C_y is "A photo of the class [y]."
    reason: str = ""  # for the fallback
    cut: str = ""  # the whole sentence, if the token budget cut it


@dataclass(frozen=True)
class Score(Judgement):
    """CLIP's judgement of one generated image."""

    cosine: float | None  # S, of image and C_y; None: CLIP's result was not finite
    rank: int  # of C_y among all classes' templates for this image, 1 = closest; ties do not count against it
    best_other: int | None = None  # the closest other class
    best_other_cosine: float | None = None
    percentile: float | None = None  # of ``cosine`` among the class's own training images; None: it has none
    threshold: float | None = None  # the cosine required; None: the rank alone decides
    failed: tuple[str, ...] = ()  # the scorers that rejected the image, or "no number"


@dataclass(frozen=True)
class Acceptance(Judgement):
    """The accept test's judgement of one image that a diffusion model generated for TGN; None: not tested."""

    cosine: float | None = None  # CLIP's, of the image and its class's prompt
    rank: int | None = None  # of that prompt among all classes' for this image, 1 = closest; ties do not count
    best_other: int | None = None  # the closest other class
    probability: float | None = None  # the tail network's, of the class among the tail classes
    threshold: float | None = None  # the probability required
    failed: tuple[str, ...] = ()  # "clip", "tail_network": the tests that rejected it; empty if it was accepted
    reason: str = ""  # for the rejection, in words


@dataclass(frozen=True)
class NearPair(Record):
    """Two images of two groups (generated, train, test) that are equal or near duplicates.

    Keys are the split's, or "class_description_round" for a generated image.
    """

    group: str
    image: str
    class_id: int
    other_group: str
    other: str
    other_class_id: int
    equal: bool  # pixel by pixel
    hash_distance: int  # of 64 bits
    cosine: float | None  # of the embeddings, if both images have one

    @property
    def nearness(self) -> tuple[bool, int, float, str, str]:
        """What sorts pairs, the nearest first."""
        cosine = -2.0 if self.cosine is None else self.cosine
        return not self.equal, self.hash_distance, -cosine, self.image, self.other


@dataclass(frozen=True)
class Answer(Record):
    """The vision-language model's answer when asked for the class of one test image."""

    image_key: str
    class_id: int  # the true one
    reply: str
    predicted: int | None  # the class that the reply names; None: none or several
    reason: str  # why there is none; otherwise how the name was found


@dataclass(frozen=True)
class EpochMetrics(Record):
    """One epoch of a training, or as many steps as its recipe says."""

    epoch: int
    network: str  # the one trained, if there are two
    step: int  # steps done at its end
    losses: dict[str, float]  # mean of each over the epoch
    lr: float
    validation: dict[str, float | None]  # a classifier's accuracies in percent, by group


def parse_records(record: type[R], lines: Iterable[str]) -> list[R]:
    """Parse JSON lines of one record type."""
    return [record.from_dict(fields) for fields in parse_lines(lines)]


def parse_lines(lines: Iterable[str]) -> list[Any]:
    """Parse JSON lines, as one text, which takes half the time; blank ones are left out."""
    found = [line for line in lines if line.strip()]
    values: list[Any] = parse_json(f"[{','.join(found)}]")
    if len(values) != len(found):
        raise ValueError("a line is not one JSON value")
    return values


def parse_some(record: type[R], rows: Sequence[int], text: str) -> list[R]:
    """Parse the records in some rows of a text of JSON lines."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not all(0 <= row < len(lines) for row in rows):
        raise LookupError(f"it has {len(lines)} records, and others are asked for")
    return parse_records(record, [lines[row] for row in rows])
