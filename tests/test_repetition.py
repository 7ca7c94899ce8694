"""The repetition check: exact, near duplicates at the threshold, and what a reply to Prompt 3 keeps."""

from __future__ import annotations

import random
import time
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.methods.ltgc.replies.repetition import RepetitionCheck, jaccard, kept_by_repetition_check, normal_form


def sentence(words: str) -> str:
    return f"A photo of the class ankle boot with {words}."


def check_with(known: list[str], similarity: float) -> RepetitionCheck:
    check = RepetitionCheck("ankle boot", similarity)
    for text in known:
        check.add(text)
    return check


def test_the_normal_form_is_the_content_words() -> None:
    text = "A photo of the class ankle boot with a LOW heel, in the snow of a photo."
    assert normal_form(text, "ankle boot") == {"low", "heel", "snow", "photo"}
    assert normal_form("A photo of the class bag with ５ straps.", "bag") == {"5", "straps"}  # a full-width digit
    assert normal_form("A photo of the class 日傘 with 赤い柄.", "日傘") == {"赤", "い", "柄"}  # no blanks: characters


def test_a_reply_that_leaves_the_parentheses_out_keeps_the_same_sentences() -> None:
    asked = [f"A photo of the class kite (bird of prey) with a {part}." for part in ("beak", "claw", "tail")]
    reply = "A photo of the class kite with a beak.\nA photo of the class kite with a tail."
    assert kept_by_repetition_check(reply, "kite (bird of prey)", asked) == [True, False, True]


@pytest.mark.parametrize("similarity", [0.5, 1.0])
@pytest.mark.parametrize(
    "again", ["a low heel and a zip", "A LOW HEEL, the zip!", "zip, low heel", "a low heel  on   its zip"]
)
def test_the_same_words_in_another_dress_repeat(similarity: float, again: str) -> None:
    assert check_with([sentence("a low heel and a zip")], similarity).repeated(sentence(again))


def test_nothing_repeats_before_something_is_known() -> None:
    check = RepetitionCheck("ankle boot", 0.1)
    assert not check.repeated(sentence("a zip"))
    assert not check.repeated(sentence("a zip"))  # asking does not add


@pytest.mark.parametrize(("similarity", "repeats"), [(0.49, True), (0.5, True), (0.51, False), (1.0, False)])
def test_near_duplicates_repeat_from_the_threshold_on(similarity: float, repeats: bool) -> None:
    # {w1, w2, w3} and {w1, w2, w4}: 2 common of 4 in all, Jaccard 0.5.
    check = check_with([sentence("w1 w2 w3")], similarity)
    assert check.repeated(sentence("w1 w2 w4")) == (sentence("w1 w2 w3") if repeats else None)


def test_exactly_at_a_threshold_that_is_not_a_binary_fraction_repeats() -> None:
    # 7 common of 25 in all: 7/25 is 0.28, though 0.28 * 25 in floating point is 7.000000000000001.
    one = " ".join(f"c{i}" for i in range(7))
    more = " ".join(f"d{i}" for i in range(18))
    assert check_with([sentence(one)], 0.28).repeated(sentence(f"{one} {more}"))
    assert not check_with([sentence(one)], 0.29).repeated(sentence(f"{one} {more}"))


def test_at_similarity_one_only_the_same_words_repeat() -> None:
    check = check_with([sentence("w1 w2 w3 w4 w5 w6 w7 w8 w9")], 1.0)
    assert not check.repeated(sentence("w1 w2 w3 w4 w5 w6 w7 w8"))
    assert check.repeated(sentence("w9 w8 w7 w6 w5 w4 w3 w2 w1"))


def test_the_order_of_what_is_known_does_not_matter() -> None:
    known = [sentence("red leather laces"), sentence("a zip and a buckle"), sentence("white soles, in the snow")]
    asked = [sentence("red leather laces, new"), sentence("blue wool"), sentence("a zip, a buckle"), sentence("soles")]
    answers = [[check_with(list(order), 0.7).repeated(text) for text in asked] for order in permutations(known)]
    assert answers == [[known[0], None, known[1], None]] * 6


@given(st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)), st.sampled_from([0.1, 0.28, 0.3, 0.5, 0.75, 0.875]))
def test_two_sentences_repeat_each_other_or_neither(one: set[int], other: set[int], similarity: float) -> None:
    first, second = (sentence(" ".join(f"w{i}" for i in sorted(words))) for words in (one, other))
    forwards = check_with([first], similarity).repeated(second)
    assert bool(forwards) == bool(check_with([second], similarity).repeated(first))
    words_1, words_2 = normal_form(first, "ankle boot"), normal_form(second, "ankle boot")
    assert bool(forwards) == (words_1 == words_2 or len(words_1 & words_2) / len(words_1 | words_2) >= similarity)


@given(st.lists(st.sets(st.integers(0, 12), max_size=10), max_size=25), st.sampled_from([0.2, 0.5, 0.7, 0.875, 0.9]))
def test_what_the_index_finds_is_what_comparing_all_pairs_finds(lists: list[set[int]], similarity: float) -> None:
    check, known = RepetitionCheck("ankle boot", similarity), []
    for words in lists:
        form = frozenset(f"{'long' * (i % 3)}w{i}" for i in words)
        text = sentence(" ".join(sorted(form)))
        by_pairs = any(jaccard(form, other) >= similarity for other in known)
        assert (check.repeated(text) is not None) == by_pairs
        check.add(text)
        known.append(form)


def test_a_thousand_descriptions_are_checked_in_a_moment() -> None:
    rng, check = random.Random(0), RepetitionCheck("ankle boot", 0.875)
    words = [f"word{i}" for i in range(200)]
    texts = [sentence(" ".join(rng.sample(words, 12))) for _ in range(1000)]
    start = time.process_time()
    for text in texts:
        check.repeated(text)
        check.add(text)
    assert time.process_time() - start < 1  # measured: 0.03 s; all pairs in Python take 20 times that


def test_a_reply_keeps_what_it_repeats_word_for_word_or_nearly() -> None:
    asked = [sentence("a zip"), sentence("laces"), sentence("a buckle")]
    reply = f"Here is the list:\n- {sentence('a zip')}\n- a photo of the class ankle boot with THE buckle."
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


@pytest.mark.parametrize(
    ("confirm", "kept"),
    [
        (0.0, [True, False, False, True, True]),  # the reply is believed
        (0.5, [True, False, True, True, True]),  # {red, zip} has 2 of {red, zip, laces}; {buckle} has nothing
        (0.7, [True, True, True, True, True]),
    ],
)
def test_what_prompt_3_leaves_out_stays_unless_it_is_as_similar_as_asked(confirm: float, kept: list[bool]) -> None:
    asked = [sentence(words) for words in ("red zip laces", "red zip", "buckle", "fur", "snow")]
    reply = "\n".join(asked[i] for i in (0, 3, 4))
    assert kept_by_repetition_check(reply, "ankle boot", asked, confirm) == kept


def test_of_two_similar_sentences_that_are_both_left_out_one_stays() -> None:
    asked = [sentence(words) for words in ("red zip", "red zip laces", "fur", "snow")]
    reply = "\n".join(asked[2:])
    assert kept_by_repetition_check(reply, "ankle boot", asked, 0.0) == [False, False, True, True]
    assert kept_by_repetition_check(reply, "ankle boot", asked, 0.5) == [True, False, True, True]


def test_prose_is_not_an_answer() -> None:
    asked = [sentence("a zip"), sentence("laces")]
    assert kept_by_repetition_check("All of them are different, well done!", "ankle boot", asked) is None
