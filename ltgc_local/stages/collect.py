"""Collect: D_g, the generated images that train: of each description the image that was accepted, if any.

Differs from the released code, which leaves rejected images beside the accepted ones: what failed its last attempt is
excluded and listed, and at most one image of a description trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ltgc_local.artefacts.files import Artefact, DrawnImage, Images, Lines
from ltgc_local.records import Rejected, Score
from ltgc_local.stages.context import Chunk, StageContext, split

NUMBERED = False


def plan_chunks(context: StageContext) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext, chunk: Sequence[str]) -> list[Artefact]:
    draws = [step for step in context.step.reads if step.endswith("draw")]
    detects = [step for step in context.step.reads if step.endswith("detect")]
    drawn = [image for step in draws for image in context.run.images(step)]
    scores = {s.key: s for step in detects for s in context.run.records(step, "scores", Score)}
    accepted, excluded = choose(drawn, scores if detects else None)
    shards = split(accepted, context.recipe.draw.shard_size)
    context.progress.advance()
    return [Lines("excluded", excluded), *(Images(f"images-{i:05d}", rows) for i, rows in enumerate(shards))]


def choose(
    drawn: Sequence[DrawnImage], scores: dict[tuple[int, int, int], Score] | None
) -> tuple[list[DrawnImage], list[Rejected]]:
    """Return the images that train, sorted by key, and those whose last attempt failed.

    Args:
        scores: by key; None if nothing was assessed, and then every image trains.
    """
    last: dict[tuple[int, int], DrawnImage] = {}
    for image in sorted(drawn, key=lambda image: image.key):
        last[image.class_id, image.description_id] = image
    accepted, excluded = [], []
    for _, image in sorted(last.items()):
        if scores is None:
            accepted.append(image)
        elif scores[image.key].accepted:
            accepted.append(replace(image, score=scores[image.key].score))
        else:
            final = scores[image.key]
            reason = (
                f"score {final.score:.3f} < {final.threshold:.3f} or rank {final.rank} after {final.round + 1} images"
            )
            excluded.append(Rejected(image.class_id, image.description, reason, "assess"))
    return accepted, excluded
