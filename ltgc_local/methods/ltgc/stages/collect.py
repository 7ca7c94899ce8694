"""Collect: D_g, the generated images to train on: the accepted image of each description, if any.

Differs from the released code, which leaves rejected images among the accepted ones: descriptions whose last attempt
failed are excluded and listed, and at most one image per description trains. A chunk is ``draw.shard_size``
descriptions, so memory holds one shard, however many images there are.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ltgc_local.methods.ltgc.scorers import explain
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import Acceptance, Rejected, Score
from ltgc_local.runs.files import Artefact, Images, Lines
from ltgc_local.runs.generated import GeneratedRow, read_generated

SHOWN_NAMES = 10  # classes named in a warning

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LastImage:
    """A description's last image, with the cosine that it was accepted with or the reason why it was rejected."""

    row: GeneratedRow
    cosine: float | None = None
    reason: str = ""

    @property
    def trains(self) -> bool:
        return not self.reason


class CollectStage(ChunkedStage[Any, LastImage]):
    """Keeps the accepted image of each description; a subclass says who judged it, and why it was rejected."""

    judgement: ClassVar[type[Score | Acceptance]]
    judged_by: ClassVar[str]  # the judge's name in the records of rejected images

    @abstractmethod
    def limits(self) -> tuple[int, int]:
        """Return how many images a file holds, and how many are generated for a description at most."""

    @abstractmethod
    def explain(self, score: Any) -> str:
        """Say why an image was rejected."""

    def chunks(self) -> list[Sequence[LastImage]]:
        """Return the last image of each description, by key."""
        judged = self.inputs("scores")
        scores = {s.key: s for step in judged for s in self.run.records(step.name, "scores", self.judgement)}
        generated = (row for step in self.inputs("draws") for row in self.run.generated(step.name))
        last = [self._judged(row, scores[row.key] if judged else None) for row in choose(generated)]
        self._warn_of_classes_without_images(last)
        return split(last, self.limits()[0])

    def _judged(self, row: GeneratedRow, score: Score | Acceptance | None) -> LastImage:
        if score is None or score.accepted:
            return LastImage(row, None if score is None else score.cosine)
        return LastImage(row, None, f"{self.explain(score)} (image {score.round + 1} of {self.limits()[1]})")

    def make_chunk(self, chunk: Sequence[LastImage]) -> list[Artefact]:
        """Return the images of a chunk that train, with their cosines, and the list of those that were excluded."""
        excluded = [
            Rejected(item.row.class_id, item.row.description, item.reason, self.judged_by)
            for item in chunk
            if not item.trains
        ]
        kept = [item for item in chunk if item.trains]
        images = read_generated([item.row for item in kept])
        accepted = [
            image if item.cosine is None else replace(image, score=item.cosine)
            for item, image in zip(kept, images, strict=True)
        ]
        self.progress.advance(len(chunk))
        return [Lines("excluded", excluded), *([Images("images", accepted)] if accepted else [])]

    def _warn_of_classes_without_images(self, last: Sequence[LastImage]) -> None:
        """Name the tail classes that get no generated image although some were wanted; the run continues."""
        made, trains = {item.row.class_id for item in last}, {item.row.class_id for item in last if item.trains}
        wanted = {class_id for class_id, number in self.budget.items() if number}
        for ids, what in (
            (sorted(wanted - made), "no image was generated"),
            (sorted((wanted & made) - trains), "every image was rejected"),
        ):
            if ids:
                some = ", ".join(repr(self.corpus.class_names[class_id]) for class_id in ids[:SHOWN_NAMES])
                some += " …" if len(ids) > SHOWN_NAMES else ""
                log.warning("generated: %s for %d of the %d tail classes: %s", what, len(ids), len(self.tail), some)


class CollectAssessedStage(CollectStage):
    """Keeps what ``assess`` accepted."""

    recipe: LtgcRecipe
    judgement, judged_by = Score, "assess"

    def limits(self) -> tuple[int, int]:
        return self.recipe.draw.shard_size, self.recipe.assess.attempts

    def explain(self, score: Score) -> str:
        return explain(score, self.recipe.assess, self.corpus.class_names)


def choose(generated: Iterable[GeneratedRow]) -> list[GeneratedRow]:
    """Return the image of the last round of each description, sorted by key."""
    last = {(row.class_id, row.description_id): row for row in sorted(generated, key=lambda row: row.key)}
    return [row for _, row in sorted(last.items())]
