"""Extend against language models that misbehave: the number is reached exactly, or what is missing is reported."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.backends.clip.tokens import load_token_counter
from ltgc_local.methods import stage as stage_module
from ltgc_local.methods.ltgc.stages.describe import described_rows
from ltgc_local.records import Description, Exchange
from ltgc_local.runs.files import Artefact, Lines

MINIATURES = Path(__file__).resolve().parents[2] / "data/miniatures"
NUM_EXISTING = 10
# K_y = 20 with 10 existing: 10 to add, 8 an ask, 4 asks at most.
SETTINGS = ("extend.max_descriptions=20", "extend.per_ask=8", "extend.max_asks=4", "describe.max_images_per_class=12")
SETTINGS += ("extend.repetition_batch=5", "extend.parallel_asks=1")


def is_prompt_2(prompt: str) -> bool:
    return "Besides these descriptions mentioned above" in prompt


def class_of(prompt: str) -> str:
    (name,) = re.findall(r"(?:for the class|for class) (.+?)(?:\.| in this descriptions list)", prompt)
    return name


def listed(prompt: str) -> str:
    return "\n".join(line for line in prompt.splitlines() if line.startswith("- "))


class Fresh:
    """Writes as many new sentences as it is asked for, each of two words of its own."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, prompt: str) -> str:
        if not is_prompt_2(prompt):
            return listed(prompt)
        (wanted,) = re.findall(r"Write (\d+) descriptions", prompt)
        numbers = range(self.count, self.count + int(wanted))
        self.count += int(wanted)
        return "\n".join(f"{i}. A photo of the class {class_of(prompt)} with feature{i} and scene{i}." for i in numbers)


@pytest.fixture
def extend_with(
    make_stage: Any, write_step: Any, scripted_llm: Any
) -> Callable[..., tuple[list[Artefact], Any, list[int]]]:
    """A function (answer, num_classes) -> (what the stage returned, the model, the classes): the rarest classes."""

    def run(answer: Callable[[str], str], num_classes: int = 1, *more: str) -> tuple[list[Artefact], Any, list[int]]:
        model = scripted_llm(answer)
        stage = make_stage("extend", *SETTINGS, *more, model=model)
        counts = stage.corpus.class_counts()
        class_ids = sorted(stage.tail, key=lambda class_id: counts[class_id])[:num_classes]
        names = stage.corpus.class_names
        existing = [
            Description(c, i, 0, f"A photo of the class {names[c]} with old{i} thing{i}.", "existing", f"train/{i}")
            for c in class_ids
            for i in range(NUM_EXISTING)
        ]
        if stage.run.manifest("describe") is None:
            write_step(stage.run, "describe", Lines("descriptions", existing))
        return stage.make_chunk(class_ids), model, class_ids

    return run


def summary_of(artefacts: Sequence[Artefact]) -> dict[str, int]:
    (summary,) = (artefact for artefact in artefacts if artefact.kind == "summary")
    (numbers,) = summary.value.values()  # type: ignore[attr-defined]
    return numbers


def reasons(rejected: Sequence[Any]) -> list[str]:
    return [record.reason for record in rejected]


def test_a_model_that_answers_well_reaches_the_number_exactly(extend_with: Any, records_of: Any) -> None:
    artefacts, model, (class_id,) = extend_with(Fresh())
    # 8 from the first ask, 2 of the second's 8; the other 6 are more than K_y.
    assert summary_of(artefacts) == {"existing": 10, "extended": 10, "missing": 0, "asks": 2}
    assert reasons(records_of(artefacts, "rejected")) == ["more than K_y"] * 6
    descriptions = records_of(artefacts, "descriptions")
    assert len({d.text for d in descriptions}) == 10
    assert {(d.class_id, d.source, d.round) for d in descriptions} == {(class_id, "extended", 0)}
    assert sum(map(is_prompt_2, model.prompts)) == 2


def test_ids_begin_after_all_described_images_also_where_a_reply_did_not_parse(
    extend_with: Any, records_of: Any, make_stage: Any
) -> None:
    artefacts, _, (class_id,) = extend_with(Fresh(), 1, "describe.tail_below=30")
    described = len(described_rows(make_stage("extend", *SETTINGS), class_id))
    ids = [d.description_id for d in records_of(artefacts, "descriptions")]
    assert ids == list(range(described, described + 10))


def test_a_model_that_repeats_itself_is_asked_a_few_times_and_the_rest_is_missing(
    extend_with: Any, records_of: Any
) -> None:
    def answer(prompt: str) -> str:
        if not is_prompt_2(prompt):
            return listed(prompt)
        return "\n".join([f"A photo of the class {class_of(prompt)} with a strap."] * 8)

    artefacts, model, _ = extend_with(answer)
    assert summary_of(artefacts) == {"existing": 10, "extended": 1, "missing": 9, "asks": 4}
    assert reasons(records_of(artefacts, "rejected")) == ["repeats another description"] * 31  # 4 * 8 - 1
    assert sum(map(is_prompt_2, model.prompts)) == 4


def test_a_model_that_gives_back_the_existing_ones_adds_nothing(extend_with: Any, records_of: Any) -> None:
    artefacts, _, _ = extend_with(listed, 1, "extend.context_descriptions=10")
    assert summary_of(artefacts)["extended"] == 0
    assert set(reasons(records_of(artefacts, "rejected"))) == {"repeats another description"}


def test_a_model_that_answers_in_prose_adds_nothing_and_its_words_are_kept(extend_with: Any, records_of: Any) -> None:
    prose = "Certainly! It is a lovely class.\nMany people own one."
    artefacts, model, _ = extend_with(lambda prompt: prose)
    assert summary_of(artefacts) == {"existing": 10, "extended": 0, "missing": 10, "asks": 4}
    rejected = records_of(artefacts, "rejected")
    assert {record.text for record in rejected} == set(prose.splitlines())
    assert len(rejected) == 8
    assert [e.reply for e in records_of(artefacts, "exchanges")] == [prose] * 4
    assert not [prompt for prompt in model.prompts if not is_prompt_2(prompt)]  # nothing to check for repetition


@pytest.mark.parametrize("reply", ["", "  \n", "<think>hm"])
def test_a_model_that_answers_nothing_adds_nothing(extend_with: Any, records_of: Any, reply: str) -> None:
    artefacts, _, _ = extend_with(lambda prompt: reply)
    assert summary_of(artefacts) == {"existing": 10, "extended": 0, "missing": 10, "asks": 4}
    assert records_of(artefacts, "descriptions") == records_of(artefacts, "rejected") == []


def test_too_long_sentences_are_cut_by_clips_own_count_and_what_was_cut_is_kept(
    extend_with: Any, records_of: Any
) -> None:
    def answer(prompt: str) -> str:
        if not is_prompt_2(prompt):
            return listed(prompt)
        numbers = ", ".join(f"a strap of {i} links" for i in range(25))
        return f"1. A photo of the class {class_of(prompt)} with {numbers}.\n2. A photo of the class bag in a shop."

    artefacts, _, (class_id,) = extend_with(answer)
    (cut,) = {(c.before, c.after) for c in records_of(artefacts, "cut")}
    (description,) = records_of(artefacts, "descriptions")
    assert description.text == cut[1]
    assert cut[1].endswith(" links.") and cut[0].startswith(cut[1].removesuffix("."))  # at a comma
    count = load_token_counter(MINIATURES / "sdxl")
    assert count(cut[1]) <= 75 < count(cut[1].removesuffix(".") + cut[0][len(cut[1]) - 1 :][:20])
    assert {c.class_id for c in records_of(artefacts, "cut")} == {class_id}


def test_a_sentence_no_beginning_of_which_fits_is_rejected(extend_with: Any, records_of: Any) -> None:
    artefacts, _, _ = extend_with(lambda prompt: f"A photo of the class {class_of(prompt)} with{'out' * 90}.")
    assert summary_of(artefacts)["extended"] == 0
    assert set(reasons(records_of(artefacts, "rejected"))) == {"no beginning of it fits the CLIP tokens"}
    assert {c.after for c in records_of(artefacts, "cut")} == {""}


def test_structured_replies_are_asked_for_by_a_schema_and_rendered(
    extend_with: Any, records_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = itertools.count()

    def answer(prompt: str) -> str:
        if not is_prompt_2(prompt):
            return listed(prompt)
        assert '"features"' in prompt and "as JSON" in prompt
        items = [
            {"features": [f"a lid{i}", f"a zip{i}"], "scene": f"on a table{i}"} for i in itertools.islice(number, 8)
        ]
        return json.dumps({"descriptions": items})

    for options in (["extend.reply_form=structured"], []):
        artefacts, model, _ = extend_with(answer, 1, *options)
        assert summary_of(artefacts) == {"existing": 10, "extended": 10, "missing": 0, "asks": 2}
        texts = [d.text for d in records_of(artefacts, "descriptions")]
        assert all(
            re.fullmatch(r"A photo of the class .+ with a lid\d+ and a zip\d+ on a table\d+\.", t) for t in texts
        )
        assert [s and s["properties"]["descriptions"]["maxItems"] for s in model.schemas] == [8, 8, None]
        # With "auto" the same is asked of a backend that holds decoding to the schema.
        monkeypatch.setattr(stage_module, "CONSTRAINED_DECODING", {"transformers"})


def test_free_text_is_asked_for_where_decoding_cannot_be_constrained(extend_with: Any) -> None:
    for options in ([], ["extend.reply_form=free"]):
        _, model, _ = extend_with(Fresh(), 1, *options)
        assert set(model.schemas) == {None}
        assert not any("JSON" in prompt for prompt in model.prompts)


def test_a_near_duplicate_is_kept_with_what_it_repeats(extend_with: Any, records_of: Any) -> None:
    def answer(prompt: str) -> str:
        words = "red leather laces heel zip sole fur"
        sentences = [f"A photo of the class {class_of(prompt)} with {text}." for text in (words, f"{words} shine")]
        return "\n".join(sentences) if is_prompt_2(prompt) else listed(prompt)

    artefacts, _, _ = extend_with(answer, 1, "extend.max_asks=2")
    (description,) = records_of(artefacts, "descriptions")
    assert {(r.reason, r.repeats) for r in records_of(artefacts, "rejected")} == {
        ("repeats another description", description.text)  # 7 words of 8 are common: 0.875
    }


@pytest.mark.parametrize(("confirm", "extended"), [(0.0, 6), (0.2, 10)])
def test_a_bad_judge_costs_no_good_sentences_if_its_word_must_be_confirmed(
    extend_with: Any, records_of: Any, confirm: float, extended: int
) -> None:
    fresh = Fresh()

    def answer(prompt: str) -> str:
        lines = listed(prompt).splitlines()
        return fresh(prompt) if is_prompt_2(prompt) else "\n".join(lines[: -(-len(lines) // 2)])

    artefacts, _, _ = extend_with(answer, 1, f"extend.repetition_confirm={confirm}", "extend.max_asks=2")
    # Two asks give 16 for the 10 places; Prompt 3 leaves out 2 of each 5, and nothing is asked after it.
    assert summary_of(artefacts)["extended"] == extended


def test_what_prompt_3_excludes_is_asked_for_again(extend_with: Any, records_of: Any) -> None:
    fresh, excluded = Fresh(), []

    def answer(prompt: str) -> str:
        lines = listed(prompt).splitlines()
        if not is_prompt_2(prompt) and not excluded:
            excluded.append(lines.pop(1).removeprefix("- "))
            return "\n".join(lines)
        return fresh(prompt)

    artefacts, model, _ = extend_with(answer)
    assert summary_of(artefacts) == {"existing": 10, "extended": 10, "missing": 0, "asks": 3}
    assert reasons(records_of(artefacts, "rejected")).count("repetitive by Prompt 3") == 1
    assert excluded[0] not in {d.text for d in records_of(artefacts, "descriptions")}
    # Ten sentences in lists of five, then the one that was added; nothing is checked twice.
    checked = [line for p in model.prompts if not is_prompt_2(p) for line in listed(p).splitlines()]
    assert len(checked) == len(set(checked)) == 11


def test_a_prompt_3_that_is_answered_with_nothing_excludes_nothing(extend_with: Any) -> None:
    fresh = Fresh()
    artefacts, _, _ = extend_with(lambda prompt: fresh(prompt) if is_prompt_2(prompt) else "None of them.")
    assert summary_of(artefacts) == {"existing": 10, "extended": 10, "missing": 0, "asks": 2}


def test_a_prompt_3_that_excludes_for_ever_ends_with_the_asks(extend_with: Any) -> None:
    fresh = Fresh()

    def answer(prompt: str) -> str:
        if is_prompt_2(prompt):
            return fresh(prompt)
        lines = listed(prompt).splitlines()
        return "\n".join(lines[: -(-len(lines) // 2)])  # keeps just the half that is believed

    artefacts, _, _ = extend_with(answer)
    numbers = summary_of(artefacts)
    assert numbers["asks"] <= 4
    assert numbers["extended"] + numbers["missing"] == 10


def test_accepted_sentences_are_fed_back_and_the_context_is_bounded(extend_with: Any) -> None:
    _, model, _ = extend_with(Fresh(), 1, "extend.context_descriptions=6")
    first, second = [listed(prompt) for prompt in model.prompts if is_prompt_2(prompt)]
    assert len(first.splitlines()) == len(second.splitlines()) == 6
    assert "feature" not in first
    assert "feature" in second


@pytest.mark.parametrize(("parallel", "asks"), [(1, 4), (3, 4), (64, 4)])
def test_asks_side_by_side_are_as_many_as_are_needed_and_allowed(
    extend_with: Any, records_of: Any, parallel: int, asks: int
) -> None:
    # 25 to add, 8 an ask: four asks give 32, and the last seven are more than K_y.
    artefacts, model, _ = extend_with(Fresh(), 1, "extend.max_descriptions=35", f"extend.parallel_asks={parallel}")
    assert summary_of(artefacts) == {"existing": 10, "extended": 25, "missing": 0, "asks": asks}
    assert reasons(records_of(artefacts, "rejected")) == ["more than K_y"] * 7
    # Silence leaves 10 to add, which takes two asks; of three that are allowed the second pair has only one left.
    silent, model, _ = extend_with(lambda prompt: "", 1, f"extend.parallel_asks={parallel}", "extend.max_asks=3")
    assert summary_of(silent)["asks"] == len(model.prompts) == 3


def test_classes_side_by_side_do_not_mix_and_a_run_is_the_same_again(extend_with: Any, records_of: Any) -> None:
    artefacts, model, class_ids = extend_with(Fresh(), 3)
    again, model_again, _ = extend_with(Fresh(), 3)
    descriptions = records_of(artefacts, "descriptions")
    assert [sum(d.class_id == c for d in descriptions) for c in class_ids] == [10, 10, 10]
    exchanges = [e for e in records_of(artefacts, "exchanges") if isinstance(e, Exchange)]
    names = {d.class_id: d.text.split(" with ")[0].removeprefix("A photo of the class ") for d in descriptions}
    assert all(names[d.class_id] in d.text for d in descriptions) and len(set(names.values())) == 3
    assert all(class_of(e.prompt) == names[e.key[0]] for e in exchanges)
    assert (records_of(again, "descriptions"), model_again.prompts) == (descriptions, model.prompts)


def test_a_class_that_has_its_number_is_not_asked_about(extend_with: Any) -> None:
    artefacts, model, _ = extend_with(Fresh(), 1, "extend.max_descriptions=10")
    assert summary_of(artefacts) == {"existing": 10, "extended": 0, "missing": 0, "asks": 0}
    assert model.prompts == []


def test_the_papers_largest_number_is_reached_exactly(extend_with: Any, records_of: Any) -> None:
    # K_y = 800 as on Places-LT: 790 to add, 50 an ask, sixteen asks; the last ten sentences are more than K_y.
    options = ("extend.max_descriptions=800", "extend.per_ask=50", "extend.max_asks=20", "extend.parallel_asks=16")
    artefacts, _, _ = extend_with(Fresh(), 1, *options)
    assert summary_of(artefacts) == {"existing": 10, "extended": 790, "missing": 0, "asks": 16}
    assert len({d.text for d in records_of(artefacts, "descriptions")}) == 790


def test_a_class_whose_asks_give_nothing_readable_is_given_up_early_with_a_warning(
    extend_with: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("extend.max_descriptions=40", "extend.max_asks=30", "extend.parallel_asks=1")
    artefacts, model, _ = extend_with(lambda prompt: "I cannot see.", 1, *options, "extend.max_useless_asks=3")
    assert summary_of(artefacts) == {"existing": 10, "extended": 0, "missing": 30, "asks": 3}
    assert len(model.prompts) == 3
    assert "1 classes given up after 3 asks that gave nothing readable" in caplog.text
    artefacts, model, _ = extend_with(lambda prompt: "", 1, *options)  # null: all asks, as ever
    assert summary_of(artefacts)["asks"] == 30
