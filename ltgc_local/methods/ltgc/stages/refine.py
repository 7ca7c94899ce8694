"""Refine: Prompt 5 asks the language model to make the description of a missed image more like its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ltgc_local.backends.protocols import ChatModel, Sampling
from ltgc_local.methods.ltgc.prompts import fill_refine
from ltgc_local.methods.ltgc.replies.structured import DESCRIPTION_SCHEMA
from ltgc_local.methods.ltgc.stages.asking import ReplyReader, ask
from ltgc_local.methods.stage import ChunkedStage
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import Description
from ltgc_local.runs.files import Artefact, Lines
from ltgc_local.runs.generated import read_rows
from ltgc_local.runs.image_keys import by_key
from ltgc_local.runs.judgements import Judgements
from ltgc_local.runs.row_index import FileRows


@dataclass(frozen=True)
class MissedRows(FileRows):
    """Rows of the file whose descriptions are refined, and the round in which their next images are generated."""

    next_round: int


@dataclass(frozen=True)
class Missed:
    """A description to refine, and the round in which its next image is generated."""

    class_id: int
    description_id: int
    text: str
    next_round: int

    @property
    def key(self) -> tuple[int, int, int]:
        return self.class_id, self.description_id, self.next_round


class RefineStage(ChunkedStage[LtgcRecipe, MissedRows]):
    """Rewrites the descriptions of the images that missed their class."""

    def chunks(self) -> list[Sequence[MissedRows]]:
        source = self.input("last draw" if self.recipe.assess.refine_from == "last" else "first draw")
        scores, images = Judgements.read(self.run, [self.input("scores")]), self.run.index(source)
        missed = scores.keys[~scores.accepted]
        missed = missed[by_key(missed)]
        next_round = int(missed[0, 2]) + 1 if len(missed) else 0  # a step judges the images of one round
        found = images.find(missed[:, :2])
        return [
            [MissedRows(item.path, item.rows, next_round) for item in part.items()]
            for part in found.parts(self.recipe.draw.shard_size)
        ]

    def make_chunk(self, items: Sequence[MissedRows]) -> list[Artefact]:
        """Write the next round's description of every missed image; if no refinement parses, the text is kept."""
        next_round = items[0].next_round
        chunk = [Missed(row.class_id, row.description_id, row.description, next_round) for row in read_rows(items)]
        settings, names = self.recipe.extend, self.corpus.class_names
        model: ChatModel = self.model
        is_structured = self.is_structured("llm", settings.reply_form)
        schema = DESCRIPTION_SCHEMA if is_structured else None
        seed = self.seed("refine", *chunk[0].key)
        sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, seed)
        replies, exchanges = ask(
            "refine",
            [missed.key for missed in chunk],
            [fill_refine(names[missed.class_id], missed.text, is_structured) for missed in chunk],
            lambda _, turns: model.reply(turns, sampling, schema),
        )
        descriptions, reader = [], ReplyReader(self, "refine")
        for missed, reply in zip(chunk, replies, strict=True):
            text = reader.first(missed.class_id, reply) or missed.text
            descriptions.append(Description(*missed.key, text, "refined"))
            self.progress.advance()
        return [*reader.files(exchanges), Lines("descriptions", descriptions)]
