"""Summarize: Prompt 4 asks the language model for C_y, the class feature template that images are scored against.

Every class gets one, not only the tail: an image must be closer to its own class's template than to the others'.
Differs from the released code: braces that the model copies from Template 2 are taken off, C_y is cut to what CLIP
reads by CLIP's own tokenizer, and a reply that is no template is asked for once more with the form spelled out; then
C_y is the plain sentence "A photo of the class [y].", with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ltgc_local.backends.clip.tokens import load_clip_token_counter
from ltgc_local.backends.protocols import ChatModel, Message, Sampling
from ltgc_local.methods.context import Chunk, StageContext, split
from ltgc_local.methods.ltgc.prompts import class_sentence, fill_form_reminder, fill_summarize
from ltgc_local.methods.ltgc.replies import cut_to_tokens, normal_form, parse_descriptions
from ltgc_local.methods.ltgc.stages.token_budget import NOTHING_FITS
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import ClassTemplate, Exchange
from ltgc_local.runs.files import Artefact, Lines

CLASSES_A_CHUNK = 64
_SLOT = re.compile(r"\{\s*(?:feature\s*\d+|\.\.\.|…)?\s*\}", re.IGNORECASE)  # left as Template 2 has it
_NUMBERED = re.compile(r"\{\s*feature\s*\d+\s*[:=]", re.IGNORECASE)


def plan_chunks(context: StageContext[LtgcRecipe]) -> list[Chunk]:
    return split(range(len(context.corpus.class_names)), CLASSES_A_CHUNK)


def run_chunk(context: StageContext[LtgcRecipe], chunk: Sequence[int]) -> list[Artefact]:
    names = [context.corpus.class_names[class_id] for class_id in chunk]
    model: ChatModel = context.model
    max_tokens = context.recipe.extend.max_clip_tokens
    count_tokens = load_clip_token_counter(context.role_folder("clip"))
    sampling = Sampling(context.recipe.extend.max_new_tokens, seed=context.seed("summarize", chunk[0]))
    turns: list[list[Message]] = [[{"role": "user", "content": fill_summarize(name)}] for name in names]
    replies = model.reply(turns, sampling)
    exchanges = _exchanges(chunk, turns, replies)
    again = [i for i, name in enumerate(names) if not read_template(replies[i], name)[0]]
    if again:
        for i in again:
            reminder = fill_form_reminder(names[i])
            turns[i] += [{"role": "assistant", "content": replies[i]}, {"role": "user", "content": reminder}]
        second = model.reply([turns[i] for i in again], sampling)
        for i, reply in zip(again, second, strict=True):
            replies[i] = reply
        exchanges += _exchanges([chunk[i] for i in again], [turns[i] for i in again], second)
    templates = []
    for class_id, name, reply in zip(chunk, names, replies, strict=True):
        sentence, reason = read_template(reply, name)
        if sentence and not (kept := cut_to_tokens(sentence, name, max_tokens, count_tokens)):
            sentence, reason = "", NOTHING_FITS
        text = kept if sentence else class_sentence(name)
        templates.append(ClassTemplate(class_id, text, not sentence, reason, sentence if text != sentence else ""))
        context.progress.advance()
    return [Lines("exchanges", exchanges), Lines("templates", templates)]


def read_template(reply: str, class_name: str) -> tuple[str, str]:
    """Return a reply's first sentence in Template 2, without braces, or "" and the reason why there is none.

    "{a hood}{two pockets}" becomes "a hood, two pockets"; slots that were left as they are ("{feature 1}") are dropped.
    """
    filled = re.sub(r"\}[\s,;]*(?:and\s+)?\{", ", ", _NUMBERED.sub("{", _SLOT.sub("", reply)))
    parsed = parse_descriptions(re.sub(r"[{}]", " ", filled), class_name)
    for sentence in parsed.sentences:
        if normal_form(sentence, class_name) - normal_form(class_sentence(class_name), class_name):
            return re.sub(r"\s+([,.])", r"\1", sentence), ""
    return "", parsed.dropped[0][1] if parsed.dropped else "states no feature" if parsed.sentences else "empty reply"


def _exchanges(chunk: Sequence[int], turns: Sequence[Sequence[Message]], replies: Sequence[str]) -> list[Exchange]:
    return [
        Exchange("summarize", (class_id,), turn[-1]["content"], reply)
        for class_id, turn, reply in zip(chunk, turns, replies, strict=True)
    ]
