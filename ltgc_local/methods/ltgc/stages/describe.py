"""Describe: Prompt 1 asks the vision-language model about each training image of the tail classes.

Differs from the released code: the model sees the plain image, not a cropped and colour-jittered one; a reply that does
not parse is asked for once more with the form spelled out, then recorded with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltgc_local.backends.protocols import ChatModel, Message, Sampling
from ltgc_local.methods.context import Chunk, StageContext, split
from ltgc_local.methods.ltgc.prompts import fill_describe, fill_form_reminder
from ltgc_local.methods.ltgc.replies import DESCRIPTION_SCHEMA, parse_descriptions
from ltgc_local.methods.ltgc.stages.token_budget import TokenBudget
from ltgc_local.recipe import DescribedRecipe, LtgcRecipe
from ltgc_local.records import Description, Exchange, Rejected
from ltgc_local.runs.files import Artefact, Lines


@dataclass(frozen=True)
class TailImage:
    """One training image to describe; ``description_id`` is its place within its class."""

    row: int
    class_id: int
    description_id: int


def plan_chunks(context: StageContext[LtgcRecipe | DescribedRecipe]) -> list[Chunk]:
    items = [
        TailImage(row, class_id, position)
        for class_id in context.tail
        for position, row in enumerate(described_rows(context, class_id))
    ]
    return split(items, context.recipe.describe.batch_size)


def described_rows(context: StageContext[LtgcRecipe | DescribedRecipe], class_id: int) -> list[int]:
    """Return the rows of a class's training images that are described: all, or a seeded sample of the most allowed."""
    train = context.corpus.train
    rows = [int(row) for row in np.flatnonzero(train.labels == class_id)]
    rows.sort(key=lambda row: context.seed("describe", train.keys[row]))
    return sorted(rows[: context.recipe.describe.max_images_per_class])


def run_chunk(context: StageContext[LtgcRecipe | DescribedRecipe], chunk: Sequence[TailImage]) -> list[Artefact]:
    names, train = context.corpus.class_names, context.corpus.train
    model: ChatModel = context.model
    is_structured = context.is_structured("vlm", context.recipe.describe.reply_form)
    schema = DESCRIPTION_SCHEMA if is_structured else None
    sampling = Sampling(context.recipe.describe.max_new_tokens, seed=context.seed("describe", chunk[0].row))
    images = train.images([item.row for item in chunk])
    prompts = [fill_describe(names[item.class_id], is_structured) for item in chunk]
    turns: list[list[Message]] = [[{"role": "user", "content": prompt}] for prompt in prompts]
    replies = model.reply(turns, sampling, schema, images)
    exchanges = _exchanges(chunk, turns, replies)
    again = [i for i, item in enumerate(chunk) if not parse_descriptions(replies[i], names[item.class_id]).sentences]
    if again:
        for i in again:
            reminder = fill_form_reminder(names[chunk[i].class_id])
            turns[i] += [{"role": "assistant", "content": replies[i]}, {"role": "user", "content": reminder}]
        second = model.reply([turns[i] for i in again], sampling, images=[images[i] for i in again])
        for i, reply in zip(again, second, strict=True):
            replies[i] = reply
        exchanges += _exchanges([chunk[i] for i in again], [turns[i] for i in again], second)
    descriptions, rejected, budget = [], [], TokenBudget(context, "describe")
    for item, reply in zip(chunk, replies, strict=True):
        text, reason = budget.first(item.class_id, reply)
        if text:
            key = train.keys[item.row]
            descriptions.append(Description(item.class_id, item.description_id, 0, text, "existing", key))
        else:
            rejected.append(Rejected(item.class_id, reply, reason, "describe"))
        context.progress.advance()
    return [
        Lines("exchanges", exchanges),
        Lines("rejected", rejected),
        Lines("cut", budget.cuts),
        Lines("descriptions", descriptions),
    ]


def _exchanges(items: Sequence[TailImage], turns: Sequence[Sequence[Message]], replies: list[str]) -> list[Exchange]:
    return [
        Exchange("describe", (item.class_id, item.description_id), turn[-1]["content"], reply)
        for item, turn, reply in zip(items, turns, replies, strict=True)
    ]
