"""Summarize: Prompt 4 asks the language model for C_y, the class feature template that images are scored against.

Every class gets one, not only the tail: an image must be closer to its own class's template than to the others'.
Differs from the released code: braces copied from Template 2 are removed, C_y is cut to CLIP's limit by CLIP's own
tokenizer, and if a reply is not a template the model is asked once more with the form spelled out. If that fails too,
C_y is the plain sentence "A photo of the class [y].", with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ltgc_local.backends.clip.tokens import load_token_counter
from ltgc_local.backends.protocols import ChatModel, Sampling
from ltgc_local.methods.ltgc.prompts import class_sentence, fill_summarize
from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.repetition import normal_form
from ltgc_local.methods.ltgc.replies.token_budget import cut_to_tokens
from ltgc_local.methods.ltgc.stages.asking import NOTHING_FITS, ask
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import ClassTemplate
from ltgc_local.runs.files import Artefact, Lines

CLASSES_PER_CHUNK = 64
_SLOT = re.compile(r"\{\s*(?:feature\s*\d+|\.\.\.|…)?\s*\}", re.IGNORECASE)  # unfilled, as in Template 2
_NUMBERED = re.compile(r"\{\s*feature\s*\d+\s*[:=]", re.IGNORECASE)


class SummarizeStage(ChunkedStage[LtgcRecipe, int]):
    """Asks for every class's template."""

    def chunks(self) -> list[Sequence[int]]:
        return split(range(len(self.corpus.class_names)), CLASSES_PER_CHUNK)

    def make_chunk(self, chunk: Sequence[int]) -> list[Artefact]:
        settings, names = self.recipe.extend, [self.corpus.class_names[class_id] for class_id in chunk]
        model: ChatModel = self.model
        count_tokens = load_token_counter(self.role_folder("clip"))
        sampling = Sampling(settings.max_new_tokens, seed=self.seed("summarize", chunk[0]))
        replies, exchanges = ask(
            "summarize",
            [(class_id,) for class_id in chunk],
            [fill_summarize(name) for name in names],
            lambda _, turns: model.reply(turns, sampling),
            lambda place, reply: bool(read_template(reply, names[place])[0]),
            names,
        )
        templates = []
        for class_id, name, reply in zip(chunk, names, replies, strict=True):
            sentence, reason = read_template(reply, name)
            if sentence and not (kept := cut_to_tokens(sentence, name, settings.max_clip_tokens, count_tokens)):
                sentence, reason = "", NOTHING_FITS
            text = kept if sentence else class_sentence(name)
            templates.append(ClassTemplate(class_id, text, not sentence, reason, sentence if text != sentence else ""))
            self.progress.advance()
        return [Lines("exchanges", exchanges), Lines("templates", templates)]


def read_template(reply: str, class_name: str) -> tuple[str, str]:
    """Return a reply's first sentence in Template 2, without braces, or "" and the reason why there is none.

    "{a hood}{two pockets}" becomes "a hood, two pockets"; unfilled slots ("{feature 1}") are dropped.
    """
    filled = re.sub(r"\}[\s,;]*(?:and\s+)?\{", ", ", _NUMBERED.sub("{", _SLOT.sub("", reply)))
    parsed = parse_descriptions(re.sub(r"[{}]", " ", filled), class_name)
    for sentence in parsed.sentences:
        if normal_form(sentence, class_name) - normal_form(class_sentence(class_name), class_name):
            return re.sub(r"\s+([,.])", r"\1", sentence), ""
    return "", "states no feature" if parsed.sentences and not parsed.dropped else parsed.reason
