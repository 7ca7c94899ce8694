"""Summarize: Prompt 4 asks the language model for C_y, the class feature template that images are scored against.

Every class gets one, not only the tail: an image must be closer to its own class's template than to the others'.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltgc_local.artefacts.files import Artefact, Lines
from ltgc_local.backends.protocols import LanguageModel, Sampling
from ltgc_local.prompts import class_sentence, fill_summarize
from ltgc_local.records import ClassTemplate, Exchange
from ltgc_local.stages.context import Chunk, StageContext, split
from ltgc_local.stages.token_budget import TokenBudget

CLASSES_A_CHUNK = 64


def plan_chunks(context: StageContext) -> list[Chunk]:
    return split(range(len(context.corpus.class_names)), CLASSES_A_CHUNK)


def run_chunk(context: StageContext, chunk: Sequence[int]) -> list[Artefact]:
    names = [context.corpus.class_names[class_id] for class_id in chunk]
    model: LanguageModel = context.model
    prompts = [fill_summarize(name) for name in names]
    sampling = Sampling(context.recipe.extend.max_new_tokens, seed=context.seed("summarize", chunk[0]))
    replies = model.reply([[{"role": "user", "content": prompt}] for prompt in prompts], sampling)
    templates, exchanges, budget = [], [], TokenBudget(context, "summarize")
    for class_id, name, prompt, reply in zip(chunk, names, prompts, replies, strict=True):
        text, _ = budget.first(class_id, reply)
        templates.append(ClassTemplate(class_id, text or class_sentence(name), not text))
        exchanges.append(Exchange("summarize", (class_id,), prompt, reply))
        context.progress.advance()
    return [Lines("exchanges", exchanges), Lines("cut", budget.cuts), Lines("templates", templates)]
