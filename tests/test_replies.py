"""Replies as models write them: what is read, what is dropped, and why."""

from __future__ import annotations

import pytest

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
