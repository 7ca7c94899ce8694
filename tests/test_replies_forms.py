"""Descriptions as JSON, in tables, quotes, wrapped lines, markup, and other languages' punctuation; and what is cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.structured import DESCRIPTION_SCHEMA, descriptions_schema
from ltgc_local.methods.ltgc.replies.template_1 import CUT_OFF, parse_sentence, render
from ltgc_local.methods.ltgc.replies.token_budget import cut_to_tokens

STRAP = "A photo of the class bag with a strap."
BOTH = "A photo of the class bag with a strap and a zip in a shop."
OBJECT = '{"features": ["a strap", "a zip"], "scene": "in a shop"}'


@pytest.mark.parametrize(
    ("features", "scene", "sentence"),
    [
        (["a strap", "a zip"], "in a shop", BOTH),
        (["With a strap.", " a zip, "], "A shop!", BOTH),
        (["a lid", "a zip", "a hood"], "on it", "A photo of the class bag with a lid, a zip and a hood on it."),
        (["a strap"], "", STRAP),
        ([], "under water", "A photo of the class bag under water."),
        (["LED lights", "Red seams. Small."], "", "A photo of the class bag with LED lights and red seams, Small."),
    ],
)  # fmt: skip
def test_features_and_a_scene_are_rendered_by_template_1(features: list[str], scene: str, sentence: str) -> None:
    assert render("bag", features, scene) == sentence
    assert parse_sentence(sentence, "bag").sentence == sentence


@pytest.mark.parametrize(
    "reply",
    [
        OBJECT,
        f"[{OBJECT}]",
        f'{{"descriptions": [{OBJECT}]}}',
        f"```json\n{OBJECT}\n```",
        f"<think>\n{{}}\n</think>\nHere you are:\n{OBJECT}\nEnjoy!",
        "{'features': ['a strap', 'a zip',], 'scene': 'in a shop',}",
        '{"Distinctive Features": ["a strap", "a zip"], "specific_scenes": ["in a shop"]}',
        '{"features": "a strap and a zip", "setting": "a shop"}',
        '{"features": ["a strap",\n  "a zip"],\r\n "scene": "in\\n a\\u0020shop", "id": 7, "seen": null}',
        f'{{"descriptions": [{OBJECT}, {{"features": ["a lid", "a sto',
        f'{{"name": "bag", {OBJECT[1:]}',
        '{"features": ["A photo of the class bag with a strap and a zip in a shop."], "scene": ""}',
        "| No. | Distinctive features | Specific scenes |\n|---|:---:|---|\n| 1 | a strap and a zip | in a shop |",
        "| # | Description |\n|--|--|\n| 1 | A photo of the class bag with a strap and a zip | in a shop |",
        "| A photo of the class bag | with a strap and a zip | in a shop. |",
    ],
)
def test_objects_and_tables_are_read_whatever_is_around_them(reply: str) -> None:
    assert parse_descriptions(reply, "bag").sentences == (BOTH,)


def test_a_cut_off_object_counts_if_its_features_are_whole() -> None:
    whole = parse_descriptions('{"features": ["a strap", "a zip"], "scene": "in a sh', "bag")
    assert whole.sentences == ("A photo of the class bag with a strap and a zip.",)
    broken = parse_descriptions('{"features": ["a strap", "a z', "bag")
    assert (broken.sentences, [reason for _, reason in broken.dropped]) == ((), [CUT_OFF])


@pytest.mark.parametrize(
    "reply",
    [
        '{"features": ["a distinctive feature", "another"], "scene": "in a specific scene"}',
        "A photo of the class bag, with distinctive features in specific scenes.",
        "A photo of the class bag with feature 1, feature 2 and feature 3.",
        '{"features": [], "scene": ""}',
        '{"features": [1, null], "scene": {"a": 2}}',
    ],
)
def test_the_templates_own_words_are_no_description(reply: str) -> None:
    assert parse_descriptions(reply, "bag").sentences == ()


@given(st.lists(st.text(max_size=30), max_size=4), st.text(max_size=40))
def test_structured_output_is_a_sentence_or_a_reason(features: list[str], scene: str) -> None:
    parsed = parse_descriptions(json.dumps({"descriptions": [{"features": features, "scene": scene}]}), "bag")
    assert all(parse_sentence(sentence, "bag").sentence == sentence for sentence in parsed.sentences)
    assert all(
        sentence.startswith("A photo of the class bag ") and sentence.isprintable() for sentence in parsed.sentences
    )


def test_the_schema_asks_for_exactly_as_many() -> None:
    schema = descriptions_schema(8)["properties"]["descriptions"]
    assert (schema["minItems"], schema["maxItems"], schema["items"]) == (8, 8, DESCRIPTION_SCHEMA)
    json.dumps(descriptions_schema(8))


@pytest.mark.parametrize(
    "reply",
    [
        'Instead of this, say "A photo of the class bag with a strap" and you are done.',
        "Say “A photo of the class bag with a strap” – it is better.",
        '"A photo of the class bag, with a strap," a more suitable description is',
        "«A photo of the class bag with a strap» est mieux",
        "A photo of the class bag\nwith a\nstrap.",
        "- A photo of the class bag with\r\n  a strap.\r\n- Thanks",
        "A photo of the class bag with a strap。",
        "A photo of the class bag， with a strap！谢谢",
        "「A photo of the class bag with a strap」",
        "A photo of the class bag with a strap।",
        "<ul><li><b>A photo</b> of the class <i>bag</i> with a strap.</li></ul>",
        "A photo of the class bag with a strap.<|im_end|>",
        "✅ **A photo of the class bag** with a **strap** 👜✨",
        "A photo of the class Bags with a strap.",
        "a photograph of class bag with a strap",
        "An image of a bag with a strap.",
        "Photo of the class: bag, with a strap.",
        '["A photo of the class \\"bag\\" with a strap."]',
        "Here is a\u200b photo of the\u00a0class bag with\x07 a strap.",
    ],
)  # fmt: skip
def test_one_description_in_quotes_wraps_markup_and_other_punctuation(reply: str) -> None:
    assert parse_descriptions(reply, "bag").sentences == (STRAP,)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("bag", "bags"), ("box", "boxes"), ("lady", "Ladies"), ("knife", "knives"), ("trousers", "trouser"),
        ("berries", "berry"), ("airplane_cabin", "airplane cabin"), ("airplane_cabin", "airplane_cabins"),
    ],
)  # fmt: skip
def test_singular_plural_and_underscores_are_the_same_name(name: str, written: str) -> None:
    parsed = parse_descriptions(f"A photo of the class {written} with a strap.", name)
    assert parsed.sentences == (f"A photo of the class {name} with a strap.",)


@pytest.mark.parametrize(
    "body", ["with Dr. Martens", "beside St. Mary's church", 'called "classic"', "of 2.5 l (red)", "at 5 p.m. in May"]
)  # fmt: skip
def test_a_full_stop_or_a_mark_within_a_description_does_not_end_it(body: str) -> None:
    parsed = parse_descriptions(f"1. A photo of the class bag {body}. It is nice.", "bag")
    expected = "at 5 p.m" if body.startswith("at 5") else body  # an unknown abbreviation ends it
    assert parsed.sentences == (f"A photo of the class bag {expected}.",)


def test_the_last_of_several_sentences_without_its_full_stop_was_cut_off() -> None:
    parsed = parse_descriptions(f"{STRAP}\nA photo of the class bag in a sh", "bag")
    assert (parsed.sentences, parsed.dropped) == ((STRAP,), (("A photo of the class bag in a sh", CUT_OFF),))
    assert len(parse_descriptions("A photo of a bag with a strap\nA photo of a bag in a shop", "bag").sentences) == 2


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        (20, "A photo of the class bag with a red strap, a zip and a lid in the snow."),
        (15, "A photo of the class bag with a red strap, a zip and a lid."),
        (13, "A photo of the class bag with a red strap, a zip."),
        (9, "A photo of the class bag with a red."),
        (8, ""),  # "with a" says nothing
    ],
)
def test_what_is_too_long_is_cut_where_a_clause_ends_or_a_word(max_tokens: int, expected: str) -> None:
    sentence = "A photo of the class bag with a red strap, a zip and a lid in the snow."
    assert cut_to_tokens(sentence, "bag", max_tokens, words) == expected


@given(st.text(alphabet="ab ,.-and", min_size=1, max_size=200), st.integers(7, 30))
def test_what_is_cut_fits_and_is_a_description_still(body: str, max_tokens: int) -> None:
    sentence = parse_sentence(f"A photo of the class bag with {body}", "bag").sentence
    cut = cut_to_tokens(sentence, "bag", max_tokens, words) if sentence else ""
    assert words(cut) <= max_tokens
    assert not cut or parse_sentence(cut, "bag").sentence == cut
    assert not cut or sentence.startswith(cut.removesuffix("."))
