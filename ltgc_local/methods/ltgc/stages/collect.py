"""Collect: D_g, the generated images that train: of each description the image that was accepted, if any.

Differs from the released code, which leaves rejected images beside the accepted ones: what failed its last attempt is
excluded and listed, and at most one image of a description trains. A chunk is ``draw.shard_size`` descriptions, so that
memory holds one shard however many images there are.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ltgc_local.datasets.groups import num_extended
from ltgc_local.methods.context import Chunk, StageContext, split
from ltgc_local.methods.ltgc.scorers import explain
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import Acceptance, Rejected, Score
from ltgc_local.runs.files import Artefact, Images, Lines
from ltgc_local.runs.generated import GeneratedRow, read_generated

SHOWN_NAMES = 10  # of classes in a warning

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LastImage:
    """A description's last image, and what was said of it; None where nothing was assessed, and every image trains."""

    row: GeneratedRow
    score: Score | Acceptance | None

    @property
    def trains(self) -> bool:
        return self.score is None or self.score.accepted


def plan_chunks(context: StageContext[LtgcRecipe]) -> list[Chunk]:
    """Return the descriptions that were drawn, by key, each with its last image."""
    draws = [step for step in context.step.reads if step.endswith("draw")]
    detects = [step for step in context.step.reads if step.endswith("detect")]
    scores = {s.key: s for step in detects for s in context.run.records(step, "scores", Score)} if detects else None
    last = choose((row for step in draws for row in context.run.generated(step)), scores)
    _warn_of_classes_without_images(context, last)
    return split(last, context.recipe.draw.shard_size)


def choose(
    drawn: Iterable[GeneratedRow], scores: Mapping[tuple[int, int, int], Score | Acceptance] | None
) -> list[LastImage]:
    """Return every description's image of its last round, sorted by key.

    Args:
        scores: by key; None if nothing was assessed.
    """
    last = {(row.class_id, row.description_id): row for row in sorted(drawn, key=lambda row: row.key)}
    return [LastImage(row, None if scores is None else scores[row.key]) for _, row in sorted(last.items())]


def run_chunk(context: StageContext[LtgcRecipe], chunk: Sequence[LastImage]) -> list[Artefact]:
    excluded = []
    for item in chunk:
        if isinstance(item.score, Score) and not item.trains:
            why = explain(item.score, context.recipe.assess, context.corpus.class_names)
            reason = f"{why} (image {item.score.round + 1} of {context.recipe.assess.attempts})"
            excluded.append(Rejected(item.row.class_id, item.row.description, reason, "assess"))
    context.progress.advance(len(chunk))
    return kept(chunk, excluded)


def kept(chunk: Sequence[LastImage], excluded: Sequence[Rejected]) -> list[Artefact]:
    """Return a chunk's images that train, each with the cosine that it was accepted with, and what is left out."""
    images = read_generated([item.row for item in chunk if item.trains])
    scores = {item.row.key: item.score for item in chunk}
    accepted = []
    for image in images:
        score = scores[image.key]
        accepted.append(image if score is None or score.cosine is None else replace(image, score=score.cosine))
    return [Lines("excluded", excluded), *([Images("images", accepted)] if accepted else [])]


def _warn_of_classes_without_images(context: StageContext[LtgcRecipe], last: Sequence[LastImage]) -> None:
    """Say which tail classes get no generated image though some were wanted; the run goes on with the others."""
    refused, missing = [], []
    drawn = Counter(item.row.class_id for item in last)
    trains = Counter(item.row.class_id for item in last if item.trains)
    counts, describe = context.corpus.class_counts(), context.recipe.describe
    for class_id in context.tail:
        name = context.corpus.class_names[class_id]
        existing = min(counts[class_id], describe.max_images_per_class)
        wanted = num_extended(existing, context.recipe.extend.max_descriptions)
        if wanted and not drawn[class_id]:
            missing.append(name)
        elif drawn[class_id] and not trains[class_id]:
            refused.append(name)
    for names, what in ((missing, "no image was drawn"), (refused, "every image was refused")):
        if names:
            some = ", ".join(map(repr, names[:SHOWN_NAMES])) + (" …" if len(names) > SHOWN_NAMES else "")
            log.warning("generated: %s for %d of the %d tail classes: %s", what, len(names), len(context.tail), some)
