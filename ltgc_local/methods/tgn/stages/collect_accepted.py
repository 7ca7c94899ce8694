"""Collect accepted: of each wanted image the attempt that the accept test let through, if any; all where none is made.

What every attempt missed is left out and listed with its reason, so that a class may get fewer images than the budget
wants: ``merge`` says how many.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from ltgc_local.methods.context import Chunk, StageContext, split
from ltgc_local.methods.ltgc.stages.collect import LastImage, choose, kept
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.records import Acceptance, Rejected
from ltgc_local.runs.files import Artefact

log = logging.getLogger(__name__)


def plan_chunks(context: StageContext[DiffusionRecipe]) -> list[Chunk]:
    """Return the wanted images, by key, each with its last attempt."""
    draws = [step for step in context.step.reads if step.endswith("/draw")]
    accepts = [step for step in context.step.reads if step.endswith("/accept")]
    scores = {s.key: s for step in accepts for s in context.run.records(step, "scores", Acceptance)}
    last = choose((row for step in draws for row in context.run.generated(step)), scores if accepts else None)
    drawn, trains = (Counter(i.row.class_id for i in items) for items in (last, [i for i in last if i.trains]))
    refused = [context.corpus.class_names[class_id] for class_id in drawn if not trains[class_id]]
    if refused:
        log.warning("generated: no image of %s was accepted", ", ".join(map(repr, refused)))
    return split(last, context.recipe.diffusion.shard_size)


def run_chunk(context: StageContext[DiffusionRecipe], chunk: Sequence[LastImage]) -> list[Artefact]:
    attempts, excluded = context.recipe.diffusion.attempts, []
    for item in chunk:
        if isinstance(item.score, Acceptance) and not item.trains:
            reason = f"{item.score.reason} (image {item.score.round + 1} of {attempts})"
            excluded.append(Rejected(item.row.class_id, item.row.description, reason, "accept"))
    context.progress.advance(len(chunk))
    return kept(chunk, excluded)
