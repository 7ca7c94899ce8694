"""The token budget of the sentences that a stage writes: what is too long for CLIP is cut, and recorded as it was."""

from __future__ import annotations

from ltgc_local.backends.clip.tokens import load_token_counter
from ltgc_local.methods.ltgc.replies import cut_to_tokens, parse_descriptions
from ltgc_local.methods.stage import Stage
from ltgc_local.recipe import DescribedRecipe, LtgcRecipe
from ltgc_local.records import Cut

NOTHING_FITS = "no beginning of it fits the CLIP tokens"


class TokenBudget:
    """Fits sentences into ``extend.max_clip_tokens`` by the text-to-image model's own tokenizer.

    Real Stable Diffusion XL has CLIP's tokenizer, so that what fits the one fits the other.
    """

    def __init__(self, stage: Stage[LtgcRecipe | DescribedRecipe], name: str) -> None:
        self.cuts: list[Cut] = []
        self.max_tokens = stage.recipe.extend.max_clip_tokens
        self._names = stage.corpus.class_names
        self._stage = name
        self._count_tokens = load_token_counter(stage.role_folder("t2i"))

    def fit(self, class_id: int, sentence: str) -> str:
        """Return a Template 1 sentence of a class as it is or cut; "" if no beginning of it that says anything fits."""
        fitting = cut_to_tokens(sentence, self._names[class_id], self.max_tokens, self._count_tokens)
        if fitting != sentence:
            self.cuts.append(Cut(class_id, sentence, fitting, self._stage))
        return fitting

    def first(self, class_id: int, reply: str) -> tuple[str, str]:
        """Return (a reply's first sentence that fits, "") or ("", the reason why there is none)."""
        parsed = parse_descriptions(reply, self._names[class_id])
        for sentence in parsed.sentences:
            if text := self.fit(class_id, sentence):
                return text, ""
        if parsed.sentences:
            return "", NOTHING_FITS
        return "", parsed.dropped[0][1] if parsed.dropped else "empty reply"
