"""Records are what files hold: every one comes back as it was written."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.records import (
    Acceptance,
    Answer,
    ClassTemplate,
    Description,
    Exchange,
    Record,
    Rejected,
    Score,
    parse_records,
)

EXAMPLES: list[Record] = [
    Description(3, 14, 2, "A photo of the class bag with “a strap”.", "refined"),
    Description(3, 0, 0, "A photo of the class bag in a shop.", "existing", "train/00042"),
    Rejected(0, "Sure!\nHere is one:", "does not begin with …", "describe"),
    Exchange("refine", (1, 2, 3), "ask", "<think>…</think>\tanswer"),
    Exchange("summarize", ("train/1",), "", ""),
    ClassTemplate(9, "A photo of the class ankle boot.", True),
    ClassTemplate(9, "A photo of the class bag.", True, "empty reply", "with a strap."),
    Score(1, 2, 0, 0.25, 3, 0, 0.5, 12.5, 0.3, ("offset", "margin")),
    Score(1, 2, 0, None, 10, failed=("no number",)),
    Acceptance(1, 2, 0, 0.25, 3, 0, 0.5, 0.9, ("clip",), "rank 3"),
    Answer("test/00042", 3, "Bags.", 4, "plural"),
    Answer("test/00043", 3, "", None, "empty reply"),
]


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_its_line(record: Record) -> None:
    line = record.to_json()
    assert "\n" not in line
    (back,) = parse_records(type(record), [line])
    assert back == record
    assert hash(back) == hash(record)


@given(st.text(), st.text())
def test_any_words_of_a_model_come_back(prompt: str, reply: str) -> None:
    exchange = Exchange("extend", (0, 1), prompt, reply)
    assert parse_records(Exchange, exchange.to_json().split("\n")) == [exchange]


@given(st.floats(allow_nan=False), st.floats(-1, 1))
def test_scores_come_back_to_the_last_bit(cosine: float, score: float) -> None:
    record = Score(0, 0, 0, cosine, score, 0.5, 1, True)
    assert parse_records(Score, [record.to_json()]) == [record]


def test_a_score_that_is_not_a_number_comes_back() -> None:
    (back,) = parse_records(Score, [Score(0, 0, 0, math.nan, 0, 0, 1, False).to_json()])
    assert math.isnan(back.cosine)


def test_letters_are_written_as_themselves() -> None:
    assert "日本語" in Rejected(0, "日本語", "", "").to_json()


def test_keys_join_descriptions_and_what_was_said_of_their_images() -> None:
    assert Description(3, 14, 2, "", "refined").key == (3, 14, 2)
    assert Score(3, 14, 2, None, 1).key == Acceptance(3, 14, 2).key == (3, 14, 2)


def test_an_image_is_accepted_that_no_test_refused() -> None:
    for refused in (Score(3, 14, 2, None, 1, failed=("no number",)), Acceptance(3, 14, 2, failed=("clip",))):
        assert not refused.accepted and dataclasses.replace(refused, failed=()).accepted


def test_what_was_refused_comes_late_in_a_line() -> None:
    assert list(json.loads(Score(3, 14, 2, None, 1).to_json()))[::9] == ["class_id", "failed"]
    assert list(json.loads(Acceptance(3, 14, 2).to_json()))[-2:] == ["failed", "reason"]


def test_blank_lines_are_no_records_and_unknown_fields_are_refused() -> None:
    assert parse_records(ClassTemplate, ["", "  "]) == []
    with pytest.raises(TypeError, match="colour"):
        parse_records(ClassTemplate, [json.dumps({"class_id": 0, "text": "", "fallback": True, "colour": "red"})])


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXAMPLES[0].text = "other"  # type: ignore[attr-defined]
