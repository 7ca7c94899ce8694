"""The repetition check: exact, near duplicates at the threshold, and what a reply to Prompt 3 keeps."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.replies import RepetitionCheck, kept_by_repetition_check, normal_form


def sentence(words: str) -> str:
    return f"A photo of the class ankle boot with {words}."


def check_with(known: list[str], similarity: float) -> RepetitionCheck:
    check = RepetitionCheck("ankle boot", similarity)
    for text in known:
        check.add(text)
    return check


def test_the_normal_form_is_the_content_words() -> None:
    assert normal_form("A photo of the class ankle boot with a LOW heel, in the snow.", "ankle boot") == {
        "photo",
        "class",
        "low",
        "heel",
        "snow",
    }


@pytest.mark.parametrize("similarity", [0.5, 1.0])
@pytest.mark.parametrize(
    "again", ["a low heel and a zip", "A LOW HEEL, the zip!", "zip, low heel", "a low heel  on   its zip"]
)
def test_the_same_words_in_another_dress_repeat(similarity: float, again: str) -> None:
    assert check_with([sentence("a low heel and a zip")], similarity).is_repetitive(sentence(again))


def test_nothing_repeats_before_something_is_known() -> None:
    check = RepetitionCheck("ankle boot", 0.1)
    assert not check.is_repetitive(sentence("a zip"))
    assert not check.is_repetitive(sentence("a zip"))  # asking does not add


@pytest.mark.parametrize(("similarity", "repeats"), [(0.66, True), (2 / 3, True), (0.67, False), (1.0, False)])
def test_near_duplicates_repeat_from_the_threshold_on(similarity: float, repeats: bool) -> None:
    # {photo, class, w1, w2, w3} and {photo, class, w1, w2, w4}: 4 common, 6 in all, Jaccard 4/6 = 0.667.
    check = check_with([sentence("w1 w2 w3")], similarity)
    assert check.is_repetitive(sentence("w1 w2 w4")) is repeats


def test_exactly_at_a_threshold_that_is_no_binary_fraction_repeats() -> None:
    # 7 common of 25 in all: 7/25 is 0.28, though 0.28 * 25 in floating point is 7.000000000000001.
    one = " ".join(f"c{i}" for i in range(5))  # with photo and class, 7 words
    more = " ".join(f"d{i}" for i in range(18))
    assert check_with([sentence(one)], 0.28).is_repetitive(sentence(f"{one} {more}"))
    assert not check_with([sentence(one)], 0.29).is_repetitive(sentence(f"{one} {more}"))


def test_at_similarity_one_only_the_same_words_repeat() -> None:
    check = check_with([sentence("w1 w2 w3 w4 w5 w6 w7 w8 w9")], 1.0)
    assert not check.is_repetitive(sentence("w1 w2 w3 w4 w5 w6 w7 w8"))
    assert check.is_repetitive(sentence("w9 w8 w7 w6 w5 w4 w3 w2 w1"))


def test_the_order_of_what_is_known_does_not_matter() -> None:
    known = [sentence("red leather laces"), sentence("a zip and a buckle"), sentence("white soles, in the snow")]
    asked = [sentence("red leather laces, new"), sentence("blue wool"), sentence("a zip, a buckle"), sentence("soles")]
    answers = [[check_with(list(order), 0.7).is_repetitive(text) for text in asked] for order in permutations(known)]
    assert answers == [[True, False, True, False]] * 6


@given(st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)), st.sampled_from([0.3, 0.5, 0.75, 0.9]))
def test_two_sentences_repeat_each_other_or_neither(one: set[int], other: set[int], similarity: float) -> None:
    first, second = (sentence(" ".join(f"w{i}" for i in sorted(words))) for words in (one, other))
    forwards = check_with([first], similarity).is_repetitive(second)
    assert forwards == check_with([second], similarity).is_repetitive(first)
    words_1, words_2 = normal_form(first, "ankle boot"), normal_form(second, "ankle boot")
    assert forwards == (len(words_1 & words_2) / len(words_1 | words_2) >= similarity)


def test_a_reply_keeps_what_it_repeats_word_for_word_or_nearly() -> None:
    asked = [sentence("a zip"), sentence("laces"), sentence("a buckle")]
    reply = f"Here is the list:\n- {sentence('a zip')}\n- a photo of the class ankle boot with THE buckle"
    assert kept_by_repetition_check(reply, "ankle boot", asked) == [True, False, True]


def test_of_equal_sentences_the_first_is_kept() -> None:
    asked = [sentence("a zip"), sentence("laces"), sentence("the zip"), sentence("a buckle")]
    reply = "\n".join([sentence("laces"), sentence("a zip"), sentence("a zip"), sentence("a buckle")])
    assert kept_by_repetition_check(reply, "ankle boot", asked) == [True, True, False, True]


@pytest.mark.parametrize(("num_kept", "believed"), [(0, False), (1, False), (2, True), (4, True)])
def test_a_reply_that_keeps_less_than_half_is_not_believed(num_kept: int, believed: bool) -> None:
    asked = [sentence(f"w{i}") for i in range(4)]
    kept = kept_by_repetition_check("\n".join(asked[:num_kept]), "ankle boot", asked)
    assert kept == ([i < num_kept for i in range(4)] if believed else None)


def test_prose_is_no_answer() -> None:
    asked = [sentence("a zip"), sentence("laces")]
    assert kept_by_repetition_check("All of them are different, well done!", "ankle boot", asked) is None
