"""Answers: the class that a reply names, however it is written, or the reason why it names none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.methods.ltgc.answers import ClassNameParser

NAMES = ("T-shirt", "trousers", "dress", "shirt", "bag", "ankle boot", "crane (bird)", "crane (machine)", "box",
         "great white shark, white shark", "glass", "glasses", "Quercus robur", "fly", "hot dog")  # fmt: skip
PARSER = ClassNameParser(NAMES)


@pytest.mark.parametrize(
    ("reply", "name", "how"),
    [
        ("bag", "bag", "exact"),
        ("bag.", "bag", "exact"),
        ('"bag"', "bag", "exact"),
        ("**Bag**", "bag", "case or punctuation"),
        ("The BAG", "bag", "case or punctuation"),
        ("t shirt", "T-shirt", "case or punctuation"),
        ("quercus robur", "Quercus robur", "case or punctuation"),
        ("crane (bird)", "crane (bird)", "exact"),
        ("Crane, bird", "crane (bird)", "case or punctuation"),
        ("white shark", "great white shark, white shark", "case or punctuation"),
        ("bags", "bag", "plural"),
        ("dresses", "dress", "plural"),
        ("trouser", "trousers", "plural"),
        ("Ankle boots", "ankle boot", "plural"),
        ("boxes", "box", "plural"),
        ("flies", "fly", "plural"),
        ("glasses", "glasses", "exact"),
        ("It is a photo of a bag on a table.", "bag", "contained"),
        ("This shows two bags; the bag is black.", "bag", "contained"),
        ("A T-shirt with a print", "T-shirt", "contained"),  # not "shirt"
        ("<think>shirt or bag?</think>a great white shark swims", "great white shark, white shark", "contained"),
        ("the class is: hot dogs", "hot dog", "contained"),
    ],
)
def test_a_reply_that_means_one_class(reply: str, name: str, how: str) -> None:
    assert PARSER.parse(reply) == (NAMES.index(name), how)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty reply"),
        (" … ", "empty reply"),
        ("<think>a bag", "empty reply"),
        ("I cannot tell.", "names no class"),
        ("crane", "names no class"),  # which of the two?
        ("dog", "names no class"),  # part of a name is not the name
        ("baggage", "names no class"),
        ("a bag or a dress", "names several classes"),
        ("bag, dress, shirt", "names several classes"),
        ("a T-shirt, not a shirt", "names several classes"),
    ],
)
def test_a_reply_that_means_none_has_a_reason(reply: str, reason: str) -> None:
    assert PARSER.parse(reply) == (None, reason)


@pytest.mark.parametrize("name", NAMES)
def test_every_class_is_understood_by_its_own_name(name: str) -> None:
    for written in (name, f" {name}.", name.upper(), f"a {name}"):
        assert PARSER.parse(written)[0] == NAMES.index(name)


def test_names_that_differ_in_punctuation_alone_are_told_apart_when_they_are_exact() -> None:
    parser = ClassNameParser(("x-ray", "x ray"))
    assert (parser.parse("x-ray")[0], parser.parse("x ray")[0], parser.parse("X_RAY")[0]) == (0, 1, None)


@given(st.text(max_size=80), st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6, unique=True))
def test_no_reply_and_no_names_break_it(reply: str, names: list[str]) -> None:
    class_id, reason = ClassNameParser(names).parse(reply)
    assert reason and (class_id is None or 0 <= class_id < len(names))
