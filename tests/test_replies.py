"""Replies as models write them: what is read, what is dropped, and why."""

from __future__ import annotations

import re

import pytest

from ltgc_local.datasets.lists import FOLDER, read_class_names
from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.template_1 import MAX_CHARACTERS, NO_OPENING, Reading, parse_sentence

STRAP = "A photo of the class bag with a strap."


@pytest.mark.parametrize(
    "reply",
    [
        STRAP,
        f"  {STRAP}  ",
        f"- {STRAP}",
        f"* {STRAP}",
        f"• {STRAP}",
        f"– {STRAP}",
        f"1. {STRAP}",
        f"12) {STRAP}",
        f"(3) {STRAP}",
        f"a) {STRAP}",
        f'"{STRAP}"',
        f"“{STRAP}”",
        f"`{STRAP}`",
        f"**{STRAP}**",
        f'1. **"{STRAP}"**',
        f'Template 1: "{STRAP}"',
        f"Sure! Here it is:\n\n{STRAP}\n\nLet me know if you need more.",
        f"Sure, here is one: {STRAP} I hope that it helps.",
        f"```\n{STRAP}\n```",
        f"<think>A photo of the class bag with wings.</think>{STRAP}",
        f"<THINK>\nhm\n</THINK>\n\n{STRAP}",
        f"It asks for one: A photo of the class bag with wings.\nSo:\n</think>\n{STRAP}",
        f"{STRAP}\n<think>A photo of the class bag with wings.",
        "a photo of the class bag with a strap",
        "A  PHOTO of the\tclass BAG   with a strap!!",
        "A photo of the class bag, with a strap.",
        'A photo of the class "bag" with a strap.',
        "A photo of the class “bag”, with a strap.",
        "A photo of the class ‘bag’ with a strap.",
        "A photo of the class *bag* with a strap.",
        "A photo of the class [bag], with a strap.",
        "A photo of the class [bag] [with a strap].",
        "A photo of a bag with a strap.",
        "A photo of the bag with a strap.",
        "\ufeffA photo of the class bag with a strap.",
        "A photo of the class bag with a strap.",
    ],
)
def test_one_description_however_it_is_wrapped(reply: str) -> None:
    assert parse_descriptions(reply, "bag").sentences == (STRAP,)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("A photo of the class coat with a strap.", NO_OPENING),
        ("A photo of the class bagss with a strap.", NO_OPENING),
        ("A photo of the class handbag with a strap.", NO_OPENING),
        ("A photo of the class bag-in-box with a strap.", NO_OPENING),
        ("A photo of the class bag's handle.", NO_OPENING),
        ("A photo of the class [y], with a strap.", NO_OPENING),
        ("The bag has a strap.", NO_OPENING),
        ("", NO_OPENING),
        ("A photo of the class bag.", "states no feature and no scene"),
        ("A photo of the class bag, …", "states no feature and no scene"),
        ("A photo of the class bag. It has a strap.", "states no feature and no scene"),
        ("A photo of the class bag {with a strap}{in a shop}.", "keeps the template's brackets"),
        ("A photo of the class bag with [a strap] in a shop.", "keeps the template's brackets"),
        ("A photo of the class bag with a <colour> strap.", "keeps the template's brackets"),
        (f"A photo of the class bag with {'x' * MAX_CHARACTERS}.", f"longer than {MAX_CHARACTERS} characters"),
    ],
)
def test_what_is_not_the_template_is_dropped_with_its_reason(line: str, reason: str) -> None:
    assert parse_sentence(line, "bag") == Reading("", reason)


def test_dropped_lines_are_kept_in_order_apart_from_the_sentences() -> None:
    reply = f"Here are two:\n1. {STRAP}\n2. A photo of the class coat with buttons.\n3) A photo of a bag in a shop."
    parsed = parse_descriptions(reply, "bag")
    assert parsed.sentences == (STRAP, "A photo of the class bag in a shop.")
    assert parsed.dropped == (
        ("Here are two:", NO_OPENING),
        ("A photo of the class coat with buttons.", NO_OPENING),
    )


@pytest.mark.parametrize(
    "reply",
    [
        "A photo of the class bag with a strap. A photo of the class bag in a shop. A photo of the class bag of 2.5 l.",
        "1. A photo of the class bag with a strap.  2. A photo of the class bag in a shop. (3) a photo of a bag of 2.5 l.",  # noqa: E501
        '"A photo of the class bag with a strap." "A photo of the class bag in a shop!" - A photo of the bag of 2.5 l.',
    ],
)
def test_several_sentences_on_one_line_are_all_read(reply: str) -> None:
    assert parse_descriptions(reply, "bag").sentences == (
        STRAP,
        "A photo of the class bag in a shop.",
        "A photo of the class bag of 2.5 l.",
    )


@pytest.mark.parametrize("reply", ["", " \n\t\n ", "```\n```", "<think></think>", '""', "- \n- \n"])
def test_an_empty_reply_says_nothing(reply: str) -> None:
    parsed = parse_descriptions(reply, "bag")
    assert (parsed.sentences, parsed.dropped) == ((), ())


@pytest.mark.parametrize(
    "name",
    ["crane (bird)", "C++", "T-shirt/top", "a.b", "x|y", "what?", "$1", r"back\slash", "日傘", "St. Bernard", "^"],
)
def test_names_with_marks_are_read_as_they_are(name: str) -> None:
    sentence = f"A photo of the class {name} with a strap."
    assert parse_descriptions(f"1. {sentence}", name).sentences == (sentence,)
    assert parse_descriptions(f"A photo of the class {name}, with a strap", name).sentences == (sentence,)
    assert parse_descriptions("A photo of the class bag with a strap.", name).sentences == ()


def names_with(mark: str) -> list[str]:
    """Return the benchmarks' class names that contain a mark."""
    lists = ["imagenet", "places365", "cifar10", "cifar100"]
    names = [line.rpartition("\t")[2] for each in lists for line in read_class_names(FOLDER / f"{each}.txt")]
    return [name for name in names if mark in name]


def test_the_benchmarks_have_names_with_a_part_in_parentheses_and_of_two_words_for_one_thing() -> None:
    assert (len(names_with("(")), len(names_with(" / "))) == (6 + 6 + 7, 5)


@pytest.mark.parametrize("name", [*names_with("("), "crane (bird)", "crane (machine)", "jaguar (cat) cub"])
def test_what_a_name_has_in_parentheses_may_be_left_out(name: str) -> None:
    short, part = " ".join(re.sub(r"\(.*?\)", "", name).split()), name[name.index("(") : name.index(")") + 1]
    sentence = f"A photo of the class {name} with a grey edge on a hill."
    forms = [name, name.upper(), short, short.title(), f'"{short}"', name.replace(part, f" {part}")]
    if name.endswith(")"):
        forms += [f"{short}s", f"{short}s {part}", f'"{short}" {part}', f"*{short}* {part}"]
    for written in forms:
        for opening in (f"A photo of the class {written}", f"a photo of a {written},"):
            assert parse_sentence(f"{opening} with a grey edge on a hill.", name) == Reading(sentence, ""), written
    whole = f'{{"features": ["A photo of the class {short} with a grey edge on a hill."], "scene": ""}}'
    row = f"| 1 | A photo of the class {short} | with a grey edge | on a hill |"
    assert [parse_descriptions(each, name).sentences for each in (whole, row)] == [(sentence,)] * 2
    assert parse_sentence(f"A photo of the class {short}fish with a fin.", name) == Reading("", NO_OPENING)


@pytest.mark.parametrize("name", names_with(" / "))
def test_one_of_two_words_for_one_thing_is_enough(name: str) -> None:
    one, other = name.split(" / ")
    forms = [name, f"{one}/{other}", f"{other} / {one}", f"{one} or {other}", f"{other} and {one}", one, other]
    for written in [*forms, *map(str.upper, forms), f'"{one}"']:
        found = parse_sentence(f"A photo of the class {written} with a grey edge.", name)
        assert found == Reading(f"A photo of the class {name} with a grey edge.", ""), written
    assert parse_sentence("A photo of the class chair with a grey edge.", name) == Reading("", NO_OPENING)


@pytest.mark.parametrize("name", ["(bird)", "f(x)", "()", "/", "a / ", "a (b / c)", "a_b c (d_e)"])
def test_a_name_that_only_looks_like_these_is_read_as_it_is(name: str) -> None:
    sentence = f"A photo of the class {name.strip()} with a strap."
    assert parse_sentence(sentence, name.strip()).sentence == sentence
    assert parse_sentence("A photo of the class bag with a strap.", name).sentence == ""


def test_a_dot_in_a_name_is_only_a_dot() -> None:
    assert parse_sentence("A photo of the class axb with a strap.", "a.b") == Reading("", NO_OPENING)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("T-shirt", "T\u2011shirt"),
        ("T-shirt", "T\u2010shirt"),
        ("T\u2011shirt", "T-shirt"),
        ("lady's slipper", "lady\u2019s slipper"),
        ("lady\u2019s slipper", "lady's slipper"),
        ("ankle boot", "Ankle\u00a0 boot"),
    ],
)
def test_typographic_hyphens_apostrophes_and_blanks_are_the_same_name(name: str, written: str) -> None:
    found = parse_sentence(f"A photo of the class {written} with a strap.", name)
    assert found == Reading(f"A photo of the class {name} with a strap.", "")


def test_typography_within_a_description_stays() -> None:
    sentence = "A photo of the class bag with a “classic” strap – brown, 2.5 cm."
    assert parse_descriptions(f"• {sentence}", "bag").sentences == (sentence,)
