"""100,000 damaged replies: no exception, and nothing gets through that is not Template 1 within the token budget.

They are made with a fixed seed from real replies (tests/data/replies.jsonl): cut, spliced, shuffled, wrapped, retyped
in other scripts' punctuation, and mixed with markup, control characters, other scripts and very long lines.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from ltgc_local.backends.clip.tokens import load_token_counter
from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.token_budget import cut_to_tokens

ROOT = Path(__file__).resolve().parents[1]
CORPUS = [json.loads(line) for line in (ROOT / "tests/data/replies.jsonl").read_text("utf-8").splitlines()]
NUM_REPLIES, MAX_TOKENS = 100_000, 75
JUNK = (
    *"\"'“”*`_|\\{}[]<>。！，、؟।…「」『«–・٣Ⅳﬁßİé👜\0\x07\r\t\x85\u2028\u200b\u202e\ufeff\ufffd\u3000\ud800",
    *("**", "```", "```json\n", "\\n", "\\u0000", "\\ud800", "\x1b[31m", "\r\n", "\n\n", "e\u0301", "👩\u200d🚀"),
    *("<think>", "</think>", "<br>", "</s>", "<|im_end|>", "{}", '{"features": [', '"scene": "', '"]}'),
    *("カバンの写真。", "صورة لحقيبة", "фото сумки", "กระเป๋า", "가방 사진", "תיק", "1. ", "- "),
    *("A photo of the class ", "a photo of a ", "Template 1: ", "with a strap", " in a shop", ". ", "St. ", "e.g. "),
    "| a | b |\n|---|---|\n",
)
LONG = ("word " * 400, "x" * 3000, "a strap, " * 100, "(" * 2000, "{" * 2000, '"' * 2000, " " * 5000, "\n" * 2000)
LONG += (
    "A photo of " * 300,
    "日" * 1500,
    "1. " * 800,
    "<think>" * 300,
    "| " * 1500,
    '{"features": ["a"], ' * 100,
    "." * 2000,
)
PUNCTUATION = str.maketrans({".": "。", ",": "，", '"': "「", ":": "：", "'": "’", "-": "\u2011"})


def cut(text: str, rng: random.Random) -> str:
    start, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    return text[start:] if rng.random() < 0.3 else text[:end]


def splice(text: str, rng: random.Random) -> str:
    other = rng.choice(CORPUS)["reply"]
    return text[: rng.randint(0, len(text))] + other[rng.randint(0, len(other)) :]


def shuffle(text: str, rng: random.Random) -> str:
    separator = rng.choice(("\n", " ", ". ", ", "))
    parts = text.split(separator)
    rng.shuffle(parts)
    return separator.join(parts)


def insert_junk(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 5)):
        place = rng.randint(0, len(text))
        text = text[:place] + rng.choice(JUNK) + text[place:]
    return text


def insert_unicode(text: str, rng: random.Random) -> str:
    place = rng.randint(0, len(text))
    return text[:place] + "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randint(1, 8))) + text[place:]


def insert_long(text: str, rng: random.Random) -> str:
    if rng.random() < 0.9:  # long lines are slow to read: a few hundred of each are enough
        return insert_junk(text, rng)
    place = rng.randint(0, len(text))
    return text[:place] + rng.choice(LONG) + text[place:]


def delete(text: str, rng: random.Random) -> str:
    place = rng.randint(0, len(text))
    return text[:place] + text[place + rng.randint(1, 12) :]


def wrap(text: str, rng: random.Random) -> str:
    width, ending = rng.randint(8, 60), rng.choice(("\n", "\r\n", "\r", "\n> "))
    return re.sub(rf"(.{{1,{width}}}) ", rf"\1{ending}", text)


def retype(text: str, rng: random.Random) -> str:
    return rng.choice((str.upper, str.lower, str.swapcase, str.title, lambda t: t.translate(PUNCTUATION), json.dumps))(
        text
    )


MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (
    cut, splice, shuffle, insert_junk, insert_unicode, insert_long, delete, wrap, retype,
)  # fmt: skip


def damaged_replies(num: int) -> Iterator[tuple[str, str]]:
    """Yield (reply, class name)."""
    rng = random.Random(20261124)
    names = sorted({reply["class_name"] for reply in CORPUS})
    for _ in range(num):
        reply = rng.choice(CORPUS)
        text, name = reply["reply"], reply["class_name"]
        if rng.random() < 0.7:  # most real replies are wordy; short ones reach the parser's corners more often
            text = text[:120]
        for mutate in rng.choices(MUTATIONS, k=rng.randint(1, 3)):
            text = mutate(text, rng)
        yield text, rng.choice(names) if rng.random() < 0.05 else name


def test_a_hundred_thousand_damaged_replies_let_nothing_through_that_is_not_the_template() -> None:
    folder = ROOT / "data/miniatures/sdxl"
    count_tokens = cache(load_token_counter(folder))
    template = {
        r["class_name"]: re.compile(rf"A photo of the class {re.escape(r['class_name'])} [^{{}}\[\]<>]+\.")
        for r in CORPUS
    }
    num_through, num_cut, through = 0, 0, set()
    for reply, name in damaged_replies(NUM_REPLIES):
        for sentence in parse_descriptions(reply, name).sentences:
            fitting = cut_to_tokens(sentence, name, MAX_TOKENS, count_tokens)
            num_through, num_cut = num_through + bool(fitting), num_cut + (fitting != sentence)
            if fitting:
                through.add((fitting, name))
    for sentence, name in through:
        assert template[name].fullmatch(sentence), (sentence, name)
        assert sentence.isprintable(), sentence  # no control characters, line ends, lone surrogates, hidden marks
        assert any(map(str.isalnum, sentence.removeprefix(f"A photo of the class {name}"))), sentence
        sentence.encode("utf-8")
    tokens = load_token_counter(folder)
    assert max(tokens(sentence) for sentence, _ in through) <= MAX_TOKENS
    # The damage is neither harmless nor all there is: enough gets through, and enough of that had to be cut.
    assert num_through > 30_000 and num_cut > 500 and len(through) > 10_000
