"""Conversations that the miniature chat models are trained and measured on: the product's prompts and right replies.

A right reply states attributes as the pool has them: P(attributes | class). A part of the conversations is about
made-up names, with a random class's attributes, so that a model copies the name it is given.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ltgc_local.methods.ltgc import prompts
from miniatures.attributes import VALUES, names_of
from miniatures.captions import PHRASES, say, sentence
from miniatures.pool import CLASS_NAMES, Pictures

Values = dict[str, str]
#: Turns of user, assistant, user, ...; the last one is the reply to learn.
Conversation = list[str]
RARE = 0.2  # a value that fewer of a class's pictures have is untypical: Prompt 5 replaces it
FLATTEN = 0.75  # exponent on P(attributes | class) when descriptions are listed: rarer ones come a little more often
_ADJECTIVES = ("red", "old", "tiny", "Great", "Northern", "wild", "small", "blue", "sea", "garden", "spotted", "wooden")
_NOUNS = ("fox", "sailing boat", "owl", "kitchen", "tower", "moth", "bakery", "harbour", "lizard", "studio", "guitar")
_ONSETS = (*"bcdfghjklmnprstvwz", "br", "tr", "st", "ch")
_NUCLEI = (*"aeiouy", "ae", "ou")
_CODAS = "nrsltx"


class PoolTable:
    """How often the pool's pictures of each class have which attributes."""

    def __init__(self, pool: Pictures) -> None:
        self.combinations: list[Counter[tuple[str, ...]]] = [Counter() for _ in CLASS_NAMES]
        for values, label in zip(pool.attributes, pool.labels.tolist(), strict=True):
            self.combinations[label][tuple(values[name] for name in names_of(label))] += 1

    def share(self, class_id: int, name: str, value: str) -> float:
        """Return P(attribute = value | class)."""
        counts, column = self.combinations[class_id], names_of(class_id).index(name)
        return sum(n for values, n in counts.items() if values[column] == value) / counts.total()

    def modal(self, class_id: int) -> Values:
        """Return the most common value of each attribute."""
        return {name: max(VALUES[name], key=partial(self.share, class_id, name)) for name in names_of(class_id)}

    def draw(self, class_id: int, rng: random.Random) -> Values:
        """Draw the attributes of a picture of the class."""
        counts = self.combinations[class_id]
        return dict(zip(names_of(class_id), rng.choices(list(counts), list(counts.values()))[0], strict=True))

    def draw_distinct(
        self, class_id: int, count: int, rng: random.Random, taken: Sequence[Values] = ()
    ) -> list[Values]:
        """Draw up to ``count`` different attribute combinations, none of them ``taken``, without replacement."""
        names, seen = names_of(class_id), {tuple(values.values()) for values in taken}
        free = {c: n for c, n in self.combinations[class_id].items() if c not in seen}
        first = sorted(free, key=lambda c: rng.expovariate(1.0) / free[c] ** FLATTEN)[:count]
        return [dict(zip(names, combination, strict=True)) for combination in first]


@dataclass(frozen=True)
class Level:
    """How hard conversations are: the longest list in a question, and the share about made-up names."""

    longest: int = 16
    made_up_share: float = 0.15


FULL = Level()


@dataclass(frozen=True)
class Subject:
    """What a conversation is about: a name, and the class whose attributes it has."""

    name: str
    class_id: int
    is_real: bool = True

    def describe(self, values: Values, rng: random.Random) -> str:
        """Word ``values`` in Template 1."""
        return sentence(self.name, *say(values, self.class_id, rng))


def made_up_name(rng: random.Random) -> str:
    """Invent a class name: words, Latin-like binomials or syllables with odd joints."""

    def word(syllables: int) -> str:
        return "".join(rng.choice(_ONSETS) + rng.choice(_NUCLEI) for _ in range(syllables)) + rng.choice(_CODAS)

    draw = rng.random()
    if draw < 0.3:
        return f"{rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}"
    if draw < 0.55:
        return f"{word(2).capitalize()} {word(rng.randint(1, 2)) + rng.choice(['us', 'a', 'is'])}"
    if draw < 0.8:
        return rng.choice([" ", "_", "-", "/", ""]).join(word(rng.randint(1, 2)) for _ in range(rng.randint(1, 3)))
    return f"{rng.choice(_NOUNS)} {rng.choice(['', '2', 'No. 7', '(type)', word(1)])}".strip()


def pick_subject(rng: random.Random, level: Level = FULL) -> Subject:
    """Draw a class, under its own name or a made-up one."""
    class_id = rng.randrange(len(CLASS_NAMES))
    if rng.random() < level.made_up_share:
        return Subject(made_up_name(rng), class_id, is_real=False)
    return Subject(CLASS_NAMES[class_id], class_id)


def list_size(shortest: int, longest: int, rng: random.Random) -> int:
    """Draw a list's length, short ones more often: they are cheap to learn from."""
    return shortest + int((longest + 1 - shortest) * rng.random() ** 1.5)


def extend(table: PoolTable, rng: random.Random, level: Level = FULL) -> Conversation:
    """Prompt 2: the reply lists new descriptions, numbered, as many as wanted."""
    subject = pick_subject(rng, level)
    wanted = rng.randint(4, 10) if rng.random() < 0.9 else rng.randint(1, 3)
    size = list_size(1, min(14, level.longest), rng)
    if rng.random() < 0.5:
        existing = [table.draw(subject.class_id, rng) for _ in range(size)]
    else:
        existing = table.draw_distinct(subject.class_id, size, rng)
    new = table.draw_distinct(subject.class_id, wanted, rng, taken=existing)
    new += [table.draw(subject.class_id, rng) for _ in range(wanted - len(new))]
    listed = [subject.describe(values, rng) for values in existing]
    lines = [f"{i}. {subject.describe(values, rng)}" for i, values in enumerate(new, 1)]
    return [prompts.fill_extend(subject.name, listed, wanted), "\n".join(lines)]


def repetition_list(table: PoolTable, subject: Subject, size: int, rng: random.Random) -> tuple[list[str], list[bool]]:
    """Write a list of ``size`` descriptions and say which to keep: the first with its attributes, in any wording."""
    repeats = min(size - 1, rng.choice((0, 1, 1, 2, 2, 3, 4, 5)))
    distinct = table.draw_distinct(subject.class_id, size - repeats, rng)
    items: list[tuple[Values, str]] = [(values, subject.describe(values, rng)) for values in distinct]
    while len(items) < size:
        origin = rng.randrange(len(items))
        values, text = items[origin]
        if rng.random() < 0.45:
            text = subject.describe(values, rng)
        items.insert(rng.randint(origin + 1, len(items)), (values, text))
    firsts = [values not in [earlier for earlier, _ in items[:i]] for i, (values, _) in enumerate(items)]
    return [text for _, text in items], firsts


def repetition(table: PoolTable, rng: random.Random, level: Level = FULL) -> Conversation:
    """Prompt 3: the reply is the list without repeats."""
    subject = pick_subject(rng, level)
    listed, firsts = repetition_list(table, subject, list_size(2, level.longest, rng), rng)
    kept = [f"- {text}" for text, first in zip(listed, firsts, strict=True) if first]
    return [prompts.fill_repetition(subject.name, listed), "\n".join(kept)]


def summary(table: PoolTable, subject: Subject, rng: random.Random) -> str:
    """Write Template 2 with the class's modal features."""
    return sentence(subject.name, say(table.modal(subject.class_id), subject.class_id, rng)[0])


def summarize(table: PoolTable, rng: random.Random, level: Level = FULL) -> Conversation:
    """Prompt 4."""
    subject = pick_subject(rng, level)
    return [prompts.fill_summarize(subject.name), summary(table, subject, rng)]


def refine(table: PoolTable, rng: random.Random, level: Level = FULL) -> Conversation:
    """Prompt 5: untypical values are replaced, typical ones keep their words, missing ones are added."""
    subject = pick_subject(rng, level)
    class_id, modal = subject.class_id, table.modal(subject.class_id)
    values = table.draw(class_id, rng) if rng.random() < 0.3 else {n: rng.choice(VALUES[n]) for n in names_of(class_id)}
    phrases = {name: rng.choice(PHRASES[name, value]) for name, value in values.items()}
    shown = {name: phrase for name, phrase in phrases.items() if rng.random() < 0.85}
    if rng.random() < 0.2:
        stranger = rng.choice([n for n in ("shape", "legs", "heel", "handle") if n not in values])
        shown[stranger] = rng.choice(PHRASES[stranger, rng.choice(VALUES[stranger])])
    scene = shown.pop("view", "")
    question = prompts.fill_refine(subject.name, sentence(subject.name, list(shown.values()), scene))
    if scene:
        shown["view"] = scene
    for name in names_of(class_id):
        untypical = subject.is_real and table.share(class_id, name, values[name]) < RARE
        if name not in shown or untypical:
            shown[name] = rng.choice(PHRASES[name, modal[name]])
    *features, scene = (shown[name] for name in names_of(class_id))
    return [question, sentence(subject.name, features, scene)]


def bad_reply(subject: Subject, values: Values, rng: random.Random) -> str:
    """Write a reply that is not in Template 1's form."""
    features, scene = say(values, subject.class_id, rng)
    a, b = rng.sample(features, 2)
    return rng.choice(
        [
            f"Sure! Here is a description of the class {subject.name}.",
            f"The image shows a {subject.name} with {a}.",
            f"{a.capitalize()}, {b}",
            f"{subject.name}: {a} and {b}, in {scene}",
            f"A photo of the class {subject.name} with {a}, {b}",
            f"This is a {subject.name}.",
            "I am not sure what this is.",
            f"{a} {a} {a} {b}",
        ]
    )


def form_reminder(table: PoolTable, rng: random.Random, level: Level = FULL) -> Conversation:
    """The reminder after a reply of the language model that had no form."""
    task = rng.choice((extend, summarize, refine))
    subject = pick_subject(rng, level)
    values = table.draw(subject.class_id, rng)
    question = {
        extend: lambda: prompts.fill_extend(subject.name, [subject.describe(values, rng)], rng.randint(4, 10)),
        summarize: lambda: prompts.fill_summarize(subject.name),
        refine: lambda: prompts.fill_refine(subject.name, subject.describe(values, rng)),
    }[task]()
    reply = summary(table, subject, rng) if task is summarize else subject.describe(table.modal(subject.class_id), rng)
    return [question, bad_reply(subject, values, rng), prompts.fill_form_reminder(subject.name), reply]


def describe_image(subject: Subject, values: Values, rng: random.Random) -> Conversation:
    """Prompt 1, beside an image with these attributes."""
    return [prompts.fill_describe(subject.name), subject.describe(values, rng)]


def remind_of_image(subject: Subject, values: Values, rng: random.Random) -> Conversation:
    """Prompt 1, a reply without form, and the reminder."""
    bad = bad_reply(subject, {name: rng.choice(VALUES[name]) for name in values}, rng)
    first, reply = describe_image(subject, values, rng)
    return [first, bad, prompts.fill_form_reminder(subject.name), reply]


def form_reminder_of_image(table: PoolTable, rng: random.Random, level: Level = FULL) -> Conversation:
    """A conversation of the vision-language model about no image in particular."""
    subject = pick_subject(rng, level)
    return remind_of_image(subject, table.draw(subject.class_id, rng), rng)


Task = Callable[[PoolTable, random.Random, Level], Conversation]
#: what the language model learns -> the share of its conversations
TASKS: dict[Task, float] = {
    extend: 0.30,
    repetition: 0.36,
    summarize: 0.07,
    refine: 0.15,
    form_reminder: 0.12,
}
