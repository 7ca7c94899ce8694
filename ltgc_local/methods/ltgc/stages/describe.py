"""Describe: Prompt 1 asks the vision-language model about each training image of the tail classes.

Differs from the released code: the model sees the plain image, not a cropped and colour-jittered one; a reply that does
not parse is asked for once more with the form spelled out, then recorded with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltgc_local.backends.protocols import ChatModel, Sampling
from ltgc_local.methods.ltgc.prompts import fill_describe
from ltgc_local.methods.ltgc.replies import DESCRIPTION_SCHEMA, parse_descriptions
from ltgc_local.methods.ltgc.stages.asking import ask_twice
from ltgc_local.methods.ltgc.stages.token_budget import TokenBudget
from ltgc_local.methods.stage import ChunkedStage, Stage, split
from ltgc_local.recipe import DescribedRecipe, LtgcRecipe
from ltgc_local.records import Description, Rejected
from ltgc_local.runs.files import Artefact, Lines


@dataclass(frozen=True)
class TailImage:
    """One training image to describe; ``description_id`` is its place within its class."""

    row: int
    class_id: int
    description_id: int


class DescribeStage(ChunkedStage[LtgcRecipe | DescribedRecipe, TailImage]):
    """Asks the model about batches of the tail classes' images."""

    def chunks(self) -> list[Sequence[TailImage]]:
        items = [
            TailImage(row, class_id, position)
            for class_id in self.tail
            for position, row in enumerate(described_rows(self, class_id))
        ]
        return split(items, self.recipe.describe.batch_size)

    def make_chunk(self, chunk: Sequence[TailImage]) -> list[Artefact]:
        names, train = self.corpus.class_names, self.corpus.train
        model: ChatModel = self.model
        is_structured = self.is_structured("vlm", self.recipe.describe.reply_form)
        schema = DESCRIPTION_SCHEMA if is_structured else None
        sampling = Sampling(self.recipe.describe.max_new_tokens, seed=self.seed("describe", chunk[0].row))
        images = train.images([item.row for item in chunk])
        replies, exchanges = ask_twice(
            "describe",
            [(item.class_id, item.description_id) for item in chunk],
            [fill_describe(names[item.class_id], is_structured) for item in chunk],
            [names[item.class_id] for item in chunk],
            # The form that a reminder spells out is Template 1's, not the schema's.
            lambda places, turns: model.reply(
                turns, sampling, schema if len(turns[0]) == 1 else None, [images[i] for i in places]
            ),
            lambda place, reply: bool(parse_descriptions(reply, names[chunk[place].class_id]).sentences),
        )
        descriptions, rejected, budget = [], [], TokenBudget(self, "describe")
        for item, reply in zip(chunk, replies, strict=True):
            text, reason = budget.first(item.class_id, reply)
            if text:
                key = train.keys[item.row]
                descriptions.append(Description(item.class_id, item.description_id, 0, text, "existing", key))
            else:
                rejected.append(Rejected(item.class_id, reply, reason, "describe"))
            self.progress.advance()
        return [
            Lines("exchanges", exchanges),
            Lines("rejected", rejected),
            Lines("cut", budget.cuts),
            Lines("descriptions", descriptions),
        ]


def described_rows(stage: Stage[LtgcRecipe | DescribedRecipe], class_id: int) -> list[int]:
    """Return the rows of a class's training images that are described: all, or a seeded sample of the most allowed."""
    train = stage.corpus.train
    rows = [int(row) for row in np.flatnonzero(train.labels == class_id)]
    rows.sort(key=lambda row: stage.seed("describe", train.keys[row]))
    return sorted(rows[: stage.recipe.describe.max_images_per_class])
