"""Templates and prompts are the paper's, word for word; tests/data/paper_prompts.txt holds them once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ltgc_local.methods.ltgc import prompts

PAPER = dict(
    line.split(": ", 1) for line in (Path(__file__).parent / "data/paper_prompts.txt").read_text("utf-8").splitlines()
)
TEMPLATE_1 = 'Template 1: "A photo of the class ankle boot, {with distinctive features}{in specific scenes}."'


@pytest.mark.parametrize("title", PAPER)
def test_each_is_the_papers_word_for_word(title: str) -> None:
    assert getattr(prompts, title.upper().replace(" ", "_")) == PAPER[title]


def test_the_paper_has_two_templates_and_five_prompts() -> None:
    ours = {name for name in vars(prompts) if re.fullmatch(r"(TEMPLATE|PROMPT)_\d", name)}
    assert ours == {title.upper().replace(" ", "_") for title in PAPER}
    assert len(ours) == 7


def test_describe_asks_prompt_1_and_shows_template_1() -> None:
    assert prompts.fill_describe("ankle boot") == (
        f"Please use the Template 1 to briefly describe the image of the class ankle boot. {TEMPLATE_1}"
    )


def test_extend_lists_what_there_is_above_prompt_2() -> None:
    assert prompts.fill_extend("ankle boot", ["One.", "Two."], 8) == (
        "- One.\n- Two.\n"
        "Besides these descriptions mentioned above, please use the Template 1 to list other possible "
        "{distinctive features} and {specific scenes} for the class ankle boot.\n"
        f"{TEMPLATE_1}\nWrite 8 descriptions, one a line."
    )


def test_repetition_lists_the_descriptions_above_prompt_3() -> None:
    assert prompts.fill_repetition("ankle boot", ["One.", "Two."]) == (
        "- One.\n- Two.\n"
        "Please exclude any repetitive {distinctive features} and {specific scenes} "
        "for class ankle boot in this descriptions list.\n"
        "Write the descriptions that remain, one a line."
    )


def test_summarize_asks_prompt_4_and_shows_template_2() -> None:
    assert prompts.fill_summarize("ankle boot") == (
        "Please use Template 2 to summarize the most distinctive features of class ankle boot. "
        'Template 2: "A photo of the class ankle boot with {feature 1}{feature 2}{...}."'
    )


def test_refine_puts_the_description_in_place_of_d() -> None:
    assert prompts.fill_refine("ankle boot", "A photo of the class ankle boot.") == (
        'This description "A photo of the class ankle boot." doesn\'t seem to be representative of the class '
        "ankle boot. Could you refine it to enhance the distinctive features of class ankle boot? " + TEMPLATE_1
    )


def test_short_texts_name_the_class() -> None:
    assert prompts.class_sentence("bag") == "A photo of the class bag."
    assert prompts.zero_shot_text("bag") == "a photo of a bag."
    assert prompts.fill_form_reminder("bag") == (
        'Write one sentence that begins "A photo of the class bag with" and ends with a full stop.'
    )


@pytest.mark.parametrize("name", ["crane (bird)", r"a\1b", "C++", "50% wool", "{}", "日傘"])
def test_no_name_breaks_a_prompt(name: str) -> None:
    filled = [prompts.fill_describe(name), prompts.fill_extend(name, [], 1), prompts.fill_repetition(name, [])]
    filled += [prompts.fill_summarize(name), prompts.fill_refine(name, f"A photo of the class {name} with d.")]
    for text in filled:
        assert name in text
        assert "[y]" not in text


def test_a_description_that_speaks_of_the_paper_stays_as_it_is() -> None:
    description = "This description d is of [y]."
    assert f'"{description}"' in prompts.fill_refine("bag", description)


def test_structured_output_is_asked_for_by_an_example_after_the_papers_words() -> None:
    example = '{"features": ["a distinctive feature", "another"], "scene": "in a specific scene"}'
    for plain, structured in (
        (prompts.fill_describe("bag"), prompts.fill_describe("bag", is_structured=True)),
        (prompts.fill_refine("bag", "One."), prompts.fill_refine("bag", "One.", is_structured=True)),
    ):
        assert structured == f"{plain}\nWrite it as JSON: {example}"
    extend = prompts.fill_extend("bag", ["One."], 8, is_structured=True)
    assert extend == prompts.fill_extend("bag", ["One."], 8).replace(
        "one a line.", f'as JSON: {{"descriptions": [{example}, ...]}}'
    )
