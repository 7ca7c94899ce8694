"""Collect: D_g, the generated images to train on: the accepted image of each description, if any.

Differs from the released code, which leaves rejected images among the accepted ones: descriptions whose last attempt
failed are excluded and listed, and at most one image per description trains. A chunk is ``draw.shard_size``
descriptions, so memory holds one shard, and columns of keys and cosines, however many images there are.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ltgc_local.methods.ltgc.scorers import explain
from ltgc_local.methods.stage import ChunkedStage
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import Acceptance, Rejected, Score
from ltgc_local.runs.files import Artefact, ImageTable, Lines, image_schema
from ltgc_local.runs.generated import keys_of, take_rows
from ltgc_local.runs.image_keys import by_key
from ltgc_local.runs.judgements import Judgements
from ltgc_local.runs.row_index import FileRows, RowIndex

SHOWN_NAMES = 10  # classes named in a warning

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LastImages(FileRows):
    """Descriptions' last images, rows of one file.

    Attributes:
        cosines: that they were accepted with; None where CLIP has not seen them, or where they were rejected.
        reasons: why they were rejected; "" where they were accepted.
    """

    cosines: tuple[float | None, ...]
    reasons: tuple[str, ...]


class CollectStage(ChunkedStage[Any, LastImages]):
    """Keeps the accepted image of each description; a subclass says who judged it, and why it was rejected."""

    judgement: ClassVar[type[Score | Acceptance]]
    judged_by: ClassVar[str]  # the judge's name in the records of rejected images

    @abstractmethod
    def limits(self) -> tuple[int, int]:
        """Return how many images a file holds, and how many are generated for a description at most."""

    @abstractmethod
    def explain(self, score: Any) -> str:
        """Say why an image was rejected."""

    def chunks(self) -> list[Sequence[LastImages]]:
        """Return the last image of each description, by key."""
        last = choose(RowIndex.joined(self.run.index(step.name) for step in self.inputs("draws")))
        cosines, reasons = self._judge(last) if self.inputs("scores") else (np.full(len(last), np.nan), {})
        trains = np.ones(len(last), bool)
        trains[list(reasons)] = False
        self._warn_of_classes_without_images(last.keys[:, 0], trains)
        size = self.limits()[0]
        chunks: list[Sequence[LastImages]] = []
        for number, part in enumerate(last.parts(size)):
            items = []
            for path, places in part.by_file():
                whole = (places + number * size).tolist()
                known = tuple(None if math.isnan(cosines[place]) else float(cosines[place]) for place in whole)
                why = tuple(reasons.get(place, "") for place in whole)
                items.append(LastImages(path, tuple(part.rows[places].tolist()), known, why))
            chunks.append(items)
        return chunks

    def _judge(self, last: RowIndex) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Return the cosines (N,) that images were accepted with, and by place the reasons why others were rejected."""
        scores = Judgements.read(self.run, [step.name for step in self.inputs("scores")])
        judged = scores.find(last.keys)
        accepted = scores.accepted[judged]
        rejected = np.flatnonzero(~accepted)
        found = scores.records(self.run, judged[rejected], self.judgement)
        most = self.limits()[1]
        reasons = [f"{self.explain(score)} (image {score.round + 1} of {most})" for score in found]
        cosines = np.where(accepted, scores.cosines[judged], np.nan)
        return cosines, dict(zip(rejected.tolist(), reasons, strict=True))

    def make_chunk(self, chunk: Sequence[LastImages]) -> list[Artefact]:
        """Return the images of a chunk that train, with their cosines, and the list of those that were excluded."""
        import pyarrow as pa

        tables = [take_rows(item, image_schema().names) for item in chunk]
        table = pa.concat_tables(tables)
        order = by_key(keys_of(table))
        cosines = np.array([np.nan if cosine is None else cosine for item in chunk for cosine in item.cosines])[order]
        reasons = [reason for item in chunk for reason in item.reasons]
        table = table.take(order)
        scores = np.where(np.isnan(cosines), table["score"].to_numpy(), cosines)
        table = table.set_column(table.schema.get_field_index("score"), "score", pa.array(scores, from_pandas=False))
        facts = table.select(["class_id", "description"]).to_pylist()
        told = [reasons[place] for place in order.tolist()]
        excluded = [
            Rejected(fact["class_id"], fact["description"], reason, self.judged_by)
            for fact, reason in zip(facts, told, strict=True)
            if reason
        ]
        accepted = table.filter(pa.array([not reason for reason in told]))
        self.progress.advance(len(table))
        return [Lines("excluded", excluded), *([ImageTable("images", accepted)] if len(accepted) else [])]

    def _warn_of_classes_without_images(self, made: NDArray[np.int64], trains: NDArray[np.bool_]) -> None:
        """Name the tail classes that get no generated image although some were wanted; the run continues."""
        wanted = {class_id for class_id, number in self.budget.items() if number}
        drawn, kept = set(np.unique(made).tolist()), set(np.unique(made[trains]).tolist())
        for ids, what in (
            (sorted(wanted - drawn), "no image was generated"),
            (sorted((wanted & drawn) - kept), "every image was rejected"),
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


def choose(drawn: RowIndex) -> RowIndex:
    """Return the image of the last round of each description, sorted by key."""
    order = by_key(drawn.keys)
    described = drawn.keys[order, :2]
    is_last = np.append((described[1:] != described[:-1]).any(1), True)[: len(order)]
    return drawn.take(order[is_last])
