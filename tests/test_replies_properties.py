"""Whatever a model writes: no exception, and sentences only of the one form."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.repetition import kept_by_repetition_check, normal_form

CLASSES = "bag|ankle boot|T-shirt/top|crane (bird)|trunks / shorts|C++|St. Bernard|日傘|lady's slipper"
NAMES = st.sampled_from(CLASSES.split("|"))
#: Pieces that replies are made of, so that arbitrary text is often nearly right.
WORDS = (
    f"A photo of the class |a photo of a |{CLASSES}|crane|shorts|"
    " with a strap| in a shop|.|. |! |, |\"|“|”|’|{|}|[|]|<think>|</think>|\n|1. |- |**|…|–|-|'s |\u2028|```"
)
PIECES = st.sampled_from(WORDS.split("|")) | st.just("word " * 150)
REPLIES = st.text() | st.lists(PIECES | st.text(max_size=4), max_size=14).map("".join)


@settings(max_examples=1000)
@given(REPLIES, NAMES)
@example("A photo of the class bag -like strap. A photo of the class bag. ' .", "bag")
def test_every_sentence_has_the_form_of_the_template(reply: str, name: str) -> None:
    for sentence in parse_descriptions(reply, name).sentences:
        opening = f"A photo of the class {name} "
        assert sentence.startswith(opening)
        assert sentence.endswith(".")
        assert not set(sentence.removeprefix(opening)) & set("{}[]<>\n")
        assert len(sentence) > len(opening) + 1
        assert sentence == " ".join(sentence.split())


@given(REPLIES, NAMES)
def test_reading_what_was_read_again_changes_nothing(reply: str, name: str) -> None:
    sentences = parse_descriptions(reply, name).sentences
    again = parse_descriptions("\n".join(f"{i}. {sentence}" for i, sentence in enumerate(sentences, 1)), name)
    assert again.sentences == sentences
    assert again.dropped == ()


@given(st.text(), st.text(min_size=1).filter(str.strip))
def test_no_reply_and_no_name_raises(reply: str, name: str) -> None:
    parse_descriptions(reply, name)
    parse_descriptions(f"A photo of the class {name} with {reply}", name)
    normal_form(reply, name)


@given(REPLIES, NAMES, st.lists(REPLIES, max_size=4))
def test_the_repetition_check_answers_for_every_sentence_or_not_at_all(reply: str, name: str, asked: list[str]) -> None:
    kept = kept_by_repetition_check(reply, name, asked)
    assert kept is None or (len(kept) == len(asked) and 2 * sum(kept) >= len(asked))


#: The features of a sentence, of words that are in no class's name; equal sets make equal sentences.
FEATURES = st.frozensets(st.sampled_from(["strap", "zip", "buckle", "lace", "collar", "river"]), min_size=1, max_size=3)


@given(NAMES, st.lists(FEATURES, min_size=1, max_size=8), st.data())
def test_the_repetition_check_keeps_the_first_of_each_sentence_that_the_reply_repeats_in_any_order(
    name: str, features: list[frozenset[str]], data: st.DataObject
) -> None:
    asked = [f"A photo of the class {name} with a {' and a '.join(sorted(each))}." for each in features]
    repeated = data.draw(st.sets(st.sampled_from(asked)))
    lines = data.draw(st.permutations(sorted(repeated)))
    reply = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(lines, 1))
    expected = [sentence in repeated and sentence not in asked[:at] for at, sentence in enumerate(asked)]
    assert kept_by_repetition_check(reply, name, asked) == (expected if 2 * sum(expected) >= len(asked) else None)
