"""Describe: Prompt 1 asks the vision-language model about each training image of the tail classes.

Differs from the released code: the model sees the plain image, without cropping or colour jitter; if a reply does not
parse, the model is asked once more with the form spelled out, and a second failure is recorded with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltgc_local.backends.protocols import ChatModel, Sampling
from ltgc_local.methods.ltgc.prompts import fill_describe
from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.structured import DESCRIPTION_SCHEMA
from ltgc_local.methods.ltgc.stages.asking import ReplyReader, ask
from ltgc_local.methods.stage import ChunkedStage, Stage, split
from ltgc_local.recipe import DescribedRecipe, LtgcRecipe
from ltgc_local.records import Description
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
            TailImage(row, class_id, place)
            for class_id in self.tail
            for place, row in enumerate(described_rows(self, class_id))
        ]
        return split(items, self.recipe.describe.batch_size)

    def make_chunk(self, chunk: Sequence[TailImage]) -> list[Artefact]:
        settings, train = self.recipe.describe, self.corpus.train
        names = [self.corpus.class_names[item.class_id] for item in chunk]
        model: ChatModel = self.model
        is_structured = self.is_structured("vlm", settings.reply_form)
        sampling = Sampling(settings.max_new_tokens, seed=self.seed("describe", chunk[0].row))
        images = train.images([item.row for item in chunk])
        replies, exchanges = ask(
            "describe",
            [(item.class_id, item.description_id) for item in chunk],
            [fill_describe(name, is_structured) for name in names],
            lambda places, turns: model.reply(
                turns,
                sampling,
                DESCRIPTION_SCHEMA if is_structured and len(turns[0]) == 1 else None,  # a reminder asks for Template 1
                [images[place] for place in places],
            ),
            lambda place, reply: bool(parse_descriptions(reply, names[place]).sentences),
            names,
        )
        descriptions, reader = [], ReplyReader(self, "describe")
        for item, reply in zip(chunk, replies, strict=True):
            if text := reader.first(item.class_id, reply):
                key = train.keys[item.row]
                descriptions.append(Description(item.class_id, item.description_id, 0, text, "existing", key))
            self.progress.advance()
        return [*reader.files(exchanges), Lines("descriptions", descriptions)]


def described_rows(stage: Stage[LtgcRecipe | DescribedRecipe], class_id: int) -> list[int]:
    """Return the rows of a class's training images to describe: all, or a seeded sample of ``max_images_per_class``."""
    train = stage.corpus.train
    rows = np.flatnonzero(train.labels == class_id).tolist()
    rows.sort(key=lambda row: stage.seed("describe", train.keys[row]))
    return sorted(rows[: stage.recipe.describe.max_images_per_class])
