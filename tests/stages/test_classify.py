"""Classify: asking the vision-language model for the class of test images, and scoring its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltgc_local.backends.protocols import Conversation, Sampling
from ltgc_local.methods.ltgc.stages import classify
from ltgc_local.records import Answer
from ltgc_local.runs.files import Lines

ASKED = ("evaluate.vlm_classifier=true", "evaluate.vlm_images_per_class=3", "describe.batch_size=8")


class AnsweringVlm:
    """Gives its answers in turn; ``prompts`` holds what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.prompts = answers, list[str]()

    def reply(
        self, conversations: Sequence[Conversation], sampling: Sampling, images: Sequence[Image.Image]
    ) -> list[str]:
        assert len(images) == len(conversations)
        start = len(self.prompts)
        self.prompts += [turns[0]["content"] for turns in conversations]
        return [self.answers[i % len(self.answers)] for i in range(start, len(self.prompts))]


def test_the_same_number_of_images_of_each_class_is_asked_about_whatever_the_order(make_stage: Any) -> None:
    stage = make_stage("classify", *ASKED)
    chunks = stage.chunks()
    rows = [row for chunk in chunks for row in chunk]
    assert [len(chunk) for chunk in chunks] == [8, 8, 8, 6]
    assert np.bincount(stage.corpus.test.labels[rows]).tolist() == [3] * 10
    assert len(set(rows)) == 30
    more = make_stage("classify", *ASKED, "evaluate.vlm_images_per_class=5")
    assert set(rows) < {row for chunk in more.chunks() for row in chunk}
    other = make_stage("classify", *ASKED, "seed=1")
    assert set(rows) != {row for chunk in other.chunks() for row in chunk}


def test_few_names_are_listed_in_the_prompt_and_many_are_not(make_stage: Any) -> None:
    for most, listed in ((10, True), (9, False)):
        model = AnsweringVlm("bag")
        stage = make_stage("classify", *ASKED, f"evaluate.vlm_names_in_prompt={most}", model=model)
        stage.make_chunk([0, 1])
        names = stage.corpus.class_names
        assert all(all(name in prompt for name in names) is listed for prompt in model.prompts)
        assert len(model.prompts) == 2


def test_every_answer_is_recorded_with_what_it_was_taken_for(make_stage: Any, records_of: Any) -> None:
    stage = make_stage("classify", *ASKED, model=AnsweringVlm("Bags.", "no idea", ""))
    answers = records_of(stage.make_chunk([5, 7, 9]), "answers")
    bag, test = stage.corpus.class_names.index("bag"), stage.corpus.test
    assert [(a.reply, a.predicted, a.reason) for a in answers] == [
        ("Bags.", bag, "plural"),
        ("no idea", None, "names no class"),
        ("", None, "empty reply"),
    ]
    assert [(a.image_key, a.class_id) for a in answers] == [(test.keys[r], int(test.labels[r])) for r in (5, 7, 9)]


def answered(stage: Any, write_step: Any, replies: Sequence[tuple[int, str, int | None]]) -> dict[str, Any]:
    answers = [Answer(f"test/{i}", c, reply, guess, "") for i, (c, reply, guess) in enumerate(replies)]
    write_step(stage.run, "classify", Lines("answers", answers))
    return classify.measure_answers(stage)


def test_an_answer_to_the_list_that_names_no_class_is_wrong(make_stage: Any, write_step: Any) -> None:
    stage = make_stage("evaluate", *ASKED)
    replies = [(0, "x", 0), (0, "x", 1), (1, "mumble", None), (1, "x", 1)]
    found = answered(stage, write_step, replies)
    assert (found["all"], found["per_class"]) == (50.0, {"0": 50.0, "1": 50.0})
    assert (found["images"], found["unnamed"], found["nearest"]) == (4, 1, 0)


def test_a_free_answer_is_taken_for_the_nearest_name_by_clips_text_tower(make_stage: Any, write_step: Any) -> None:
    stage = make_stage("evaluate", *ASKED, "evaluate.vlm_names_in_prompt=0")
    names = stage.corpus.class_names
    bag = names.index("bag")
    # The parser had no chance to see these: CLIP must find the name in them, and leave an empty reply wrong.
    replies = [(bag, "bag with a handle", None), (bag, "  ", None), (bag, "x", bag)]
    found = answered(stage, write_step, replies)
    assert (found["all"], found["images"], found["unnamed"], found["nearest"]) == (pytest.approx(66.6667), 3, 2, 1)


def test_the_miniature_answers_something_about_real_images_and_is_measured(
    make_stage: Any, write_step: Any, records_of: Any
) -> None:
    stage = make_stage("classify", *ASKED, "evaluate.vlm_images_per_class=1", "describe.max_new_tokens=24")
    (chunk, *_) = stage.chunks()
    answers = records_of(stage.make_chunk(chunk), "answers")
    assert len(answers) == len(chunk) == 8
    write_step(stage.run, "classify", Lines("answers", answers))
    found = classify.measure_answers(make_stage("evaluate", *ASKED))
    correct = sum(a.predicted == a.class_id for a in answers)
    assert found["all"] == pytest.approx(100 * correct / 8)
    assert found["unnamed"] == sum(a.predicted is None for a in answers)
