"""Refine: Prompt 5 asks the language model to make the description of a missed image more like its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ltgc_local.backends.protocols import ChatModel, Sampling
from ltgc_local.methods.ltgc.prompts import fill_refine
from ltgc_local.methods.ltgc.replies import DESCRIPTION_SCHEMA
from ltgc_local.methods.ltgc.stages.token_budget import TokenBudget
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import Description, Exchange, Rejected, Score
from ltgc_local.runs.files import Artefact, Lines


@dataclass(frozen=True)
class Missed:
    """A description to refine, and the round that the refined one is drawn in."""

    class_id: int
    description_id: int
    text: str
    next_round: int


class RefineStage(ChunkedStage[LtgcRecipe, Missed]):
    """Rewrites the descriptions of the images that missed their class."""

    def chunks(self) -> list[Sequence[Missed]]:
        source = self.input("last draw" if self.recipe.assess.refine_from == "last" else "first draw")
        texts = {(drawn.class_id, drawn.description_id): drawn.description for drawn in self.run.generated(source)}
        missed = [
            Missed(score.class_id, score.description_id, texts[score.class_id, score.description_id], score.round + 1)
            for score in self.run.records(self.input("scores"), "scores", Score)
            if not score.accepted
        ]
        return split(sorted(missed, key=lambda m: (m.class_id, m.description_id)), self.recipe.draw.shard_size)

    def make_chunk(self, chunk: Sequence[Missed]) -> list[Artefact]:
        """Write a description for the next round for every missed one; where no refinement parses, the text stays."""
        settings, names = self.recipe.extend, self.corpus.class_names
        model: ChatModel = self.model
        budget = TokenBudget(self, "refine")
        is_structured = self.is_structured("llm", settings.reply_form)
        schema = DESCRIPTION_SCHEMA if is_structured else None
        prompts = [fill_refine(names[missed.class_id], missed.text, is_structured) for missed in chunk]
        first = chunk[0]
        seed = self.seed("refine", first.class_id, first.description_id, first.next_round)
        sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, seed)
        replies = model.reply([[{"role": "user", "content": prompt}] for prompt in prompts], sampling, schema)
        descriptions, rejected, exchanges = [], [], []
        for missed, prompt, reply in zip(chunk, prompts, replies, strict=True):
            key = (missed.class_id, missed.description_id, missed.next_round)
            text, reason = budget.first(missed.class_id, reply)
            if not text:
                rejected.append(Rejected(missed.class_id, reply, reason, "refine"))
            descriptions.append(Description(*key, text or missed.text, "refined"))
            exchanges.append(Exchange("refine", key, prompt, reply))
            self.progress.advance()
        return [
            Lines("exchanges", exchanges),
            Lines("rejected", rejected),
            Lines("cut", budget.cuts),
            Lines("descriptions", descriptions),
        ]
