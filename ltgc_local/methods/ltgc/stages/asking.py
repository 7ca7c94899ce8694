"""Ask a model, and once more, with the form spelled out, for each reply that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ltgc_local.backends.protocols import Message
from ltgc_local.methods.ltgc.prompts import fill_form_reminder
from ltgc_local.records import Exchange

Turns = list[list[Message]]


def ask_twice(
    stage: str,
    keys: Sequence[tuple[int, ...]],
    prompts: Sequence[str],
    class_names: Sequence[str],
    ask: Callable[[Sequence[int], Turns], list[str]],
    is_readable: Callable[[int, str], bool],
) -> tuple[list[str], list[Exchange]]:
    """Return one reply per prompt, the second where the first cannot be read, and all that was said.

    Args:
        stage: what the record of an exchange calls it.
        keys: of the prompts' items, in that record.
        ask: the places of the prompts that are asked, and their turns -> the replies.
        is_readable: place and reply -> whether it is of use.
    """
    turns: Turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    places = list(range(len(turns)))
    replies, exchanges = [""] * len(turns), []
    for attempt in range(2):
        said = ask(places, [turns[place] for place in places]) if places else []
        for place, reply in zip(places, said, strict=True):
            replies[place] = reply
            exchanges.append(Exchange(stage, keys[place], turns[place][-1]["content"], reply))
        places = [place for place in places if not is_readable(place, replies[place])]
        if attempt == 0:
            for place in places:
                reminder = fill_form_reminder(class_names[place])
                turns[place] += [
                    {"role": "assistant", "content": replies[place]},
                    {"role": "user", "content": reminder},
                ]
    return replies, exchanges
