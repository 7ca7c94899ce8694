"""What the stages that ask a chat model share: the exchange, one retry, and reading replies into descriptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ltgc_local.backends.clip.tokens import load_token_counter
from ltgc_local.backends.protocols import Message
from ltgc_local.methods.ltgc.prompts import fill_form_reminder
from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.token_budget import cut_to_tokens
from ltgc_local.methods.stage import Stage
from ltgc_local.recipe import DescribedRecipe, LtgcRecipe
from ltgc_local.records import Cut, Exchange, Rejected
from ltgc_local.runs.files import Artefact, Lines

NOTHING_FITS = "no beginning of it fits the CLIP tokens"
Turns = list[list[Message]]


def ask(
    stage: str,
    keys: Sequence[tuple[int, ...]],
    prompts: Sequence[str],
    reply: Callable[[Sequence[int], Turns], list[str]],
    is_readable: Callable[[int, str], bool] = lambda place, reply: True,
    class_names: Sequence[str] = (),
) -> tuple[list[str], list[Exchange]]:
    """Ask each prompt, and once more, with the form spelled out, where the reply is not readable.

    Args:
        stage: the stage's name in the records of the exchanges.
        keys: of the prompts' items, for those records.
        reply: the places of the prompts to ask, and their turns -> the replies.
        is_readable: place and reply -> whether it can be used.
        class_names: of the prompts, for the reminder of the form.

    Returns:
        The last reply to each prompt, and all exchanges.
    """
    turns: Turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    replies, exchanges = [""] * len(turns), []
    places = list(range(len(turns)))
    while places:
        for place, text in zip(places, reply(places, [turns[place] for place in places]), strict=True):
            replies[place] = text
            exchanges.append(Exchange(stage, keys[place], turns[place][-1]["content"], text))
        places = [place for place in places if len(turns[place]) == 1 and not is_readable(place, replies[place])]
        for place in places:
            turns[place] += [
                {"role": "assistant", "content": replies[place]},
                {"role": "user", "content": fill_form_reminder(class_names[place])},
            ]
    return replies, exchanges


class ReplyReader:
    """Reads replies into descriptions of at most ``extend.max_clip_tokens``; records what is rejected or cut.

    Tokens are counted by the text-to-image model's own tokenizer. Stable Diffusion XL has CLIP's, so a sentence that
    fits one fits the other.
    """

    def __init__(self, stage: Stage[LtgcRecipe | DescribedRecipe], name: str) -> None:
        self.rejected: list[Rejected] = []
        self.cuts: list[Cut] = []
        self._name, self._class_names = name, stage.corpus.class_names
        self._max_tokens = stage.recipe.extend.max_clip_tokens
        self._count_tokens = load_token_counter(stage.role_folder("t2i"))

    def fit(self, class_id: int, sentence: str) -> str:
        """Return a Template 1 sentence, cut if it is too long; "" if no beginning that says anything fits."""
        fitting = cut_to_tokens(sentence, self._class_names[class_id], self._max_tokens, self._count_tokens)
        if fitting != sentence:
            self.cuts.append(Cut(class_id, sentence, fitting, self._name))
        return fitting

    def first(self, class_id: int, reply: str) -> str:
        """Return a reply's first sentence that fits; if there is none, reject the reply and return ""."""
        parsed = parse_descriptions(reply, self._class_names[class_id])
        for sentence in parsed.sentences:
            if text := self.fit(class_id, sentence):
                return text
        self.reject(class_id, reply, NOTHING_FITS if parsed.sentences else parsed.reason)
        return ""

    def reject(self, class_id: int, text: str, reason: str, repeats: str = "") -> None:
        self.rejected.append(Rejected(class_id, text, reason, self._name, repeats))

    def files(self, exchanges: Sequence[Exchange]) -> list[Artefact]:
        """Return the files that record where the descriptions come from."""
        return [Lines("exchanges", exchanges), Lines("rejected", self.rejected), Lines("cut", self.cuts)]
