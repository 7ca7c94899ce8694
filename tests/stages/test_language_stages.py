"""Describe, summarize and refine, with models whose replies do not parse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from PIL import Image

from ltgc_local.backends.clip.tokens import load_token_counter
from ltgc_local.backends.protocols import Conversation, Sampling
from ltgc_local.methods.ltgc.replies.structured import DESCRIPTION_SCHEMA
from ltgc_local.methods.ltgc.stages import describe, summarize
from ltgc_local.records import Score
from ltgc_local.runs.files import GeneratedImage, Images, Lines, encode_png
from tests.stages.rebuilt import rebuilt

PNG = encode_png(Image.new("L", (4, 4), 7))


class ScriptedVlm:
    """Answers the n-th turn of every conversation with the n-th of its replies."""

    def __init__(self, *replies: str) -> None:
        self.replies = replies
        self.asked: list[list[str]] = []
        self.schemas: list[object] = []

    def reply(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling,
        schema: object | None = None,
        images: Sequence[Image.Image] = (),
    ) -> list[str]:
        self.schemas.append(schema)
        assert len(images) == len(conversations)
        self.asked += [[turn["content"] for turn in turns] for turns in conversations]
        return [self.replies[len(turns) // 2] for turns in conversations]


def rarest(stage: Any) -> int:
    counts = stage.corpus.class_counts()
    return min(stage.tail, key=lambda class_id: counts[class_id])


def chunk_of(stage: Any, size: int = 2) -> list[describe.TailImage]:
    class_id = rarest(stage)
    return [describe.TailImage(r, class_id, i) for i, r in enumerate(describe.described_rows(stage, class_id)[:size])]


def test_every_image_of_a_tail_class_is_described_once(make_stage: Any) -> None:
    stage = make_stage("describe", "describe.batch_size=7", "describe.tail_below=30")
    items = [item for chunk in stage.chunks() for item in chunk]
    labels = stage.corpus.train.labels
    assert sorted(item.row for item in items) == [row for row in range(len(labels)) if labels[row] in stage.tail]
    assert len(items) == 28 + 17 + 10
    assert all(labels[item.row] == item.class_id for item in items)
    assert {item.description_id for item in items if item.class_id == rarest(stage)} == set(range(10))


def test_a_sample_of_images_is_the_same_again_and_another_with_another_seed(make_stage: Any) -> None:
    def rows(*overrides: str) -> list[int]:
        stage = make_stage("describe", *overrides)
        largest = max(stage.tail, key=lambda class_id: stage.corpus.class_counts()[class_id])
        return describe.described_rows(stage, largest)

    some = rows("describe.max_images_per_class=10")
    assert len(set(some)) == 10 and some == sorted(some)
    assert some == rows("describe.max_images_per_class=10")
    assert set(some) < set(rows("describe.max_images_per_class=20"))
    assert some != rows("describe.max_images_per_class=10", "seed=1")


def test_a_reply_that_does_not_parse_is_asked_for_once_more(make_stage: Any, records_of: Any) -> None:
    stage = make_stage("describe")
    name = stage.corpus.class_names[rarest(stage)]
    model = ScriptedVlm("It is nice.", f"Sure: a photo of the class {name} with a hood.")
    stage = rebuilt(stage, vlm=model)
    artefacts = stage.make_chunk(chunk_of(stage))
    descriptions = records_of(artefacts, "descriptions")
    assert [d.text for d in descriptions] == [f"A photo of the class {name} with a hood."] * 2
    assert [d.image_key for d in descriptions] == [stage.corpus.train.keys[i.row] for i in chunk_of(stage)]
    assert records_of(artefacts, "rejected") == []
    assert [len(turns) for turns in model.asked] == [1, 1, 3, 3]
    assert model.asked[2][1] == "It is nice." and "ends with a full stop" in model.asked[2][2]
    assert len(records_of(artefacts, "exchanges")) == 4


@pytest.mark.parametrize(("reply", "reason"), [("No idea.", "does not begin"), ("", "empty reply")])
def test_a_reply_that_never_parses_is_a_record_with_a_reason(
    make_stage: Any, records_of: Any, reply: str, reason: str
) -> None:
    stage = make_stage("describe", model=ScriptedVlm("It is nice.", reply))
    artefacts = stage.make_chunk(chunk_of(stage))
    assert records_of(artefacts, "descriptions") == []
    rejected = records_of(artefacts, "rejected")
    assert [(r.text, r.stage) for r in rejected] == [(reply, "describe")] * 2
    assert all(r.reason.startswith(reason) for r in rejected)


def test_every_class_gets_a_template_or_the_plain_sentence(make_stage: Any, records_of: Any, scripted_llm: Any) -> None:
    stage = make_stage("assess/template")
    names = stage.corpus.class_names
    model = scripted_llm(lambda p: f"A photo of the class {names[2]} with a hood." if names[2] in p else "Hm.")
    stage = rebuilt(stage, llm=model)
    (chunk,) = stage.chunks()
    templates = records_of(stage.make_chunk(chunk), "templates")
    assert [t.class_id for t in templates] == list(range(10))
    by_class = {t.class_id: t for t in templates}
    assert (by_class[2].text, by_class[2].fallback) == (f"A photo of the class {names[2]} with a hood.", False)
    assert (by_class[1].text, by_class[1].fallback) == (f"A photo of the class {names[1]}.", True)
    assert (by_class[2].reason, by_class[1].reason) == ("", 'does not begin with "A photo of the class [y]"')
    reminded = [prompt for prompt in model.prompts if "ends with a full stop" in prompt]
    assert len(reminded) == 9 and len(model.prompts) == 10 + 9  # all but class 2 are asked once more


def test_a_template_at_the_second_ask_is_taken(make_stage: Any, records_of: Any, scripted_llm: Any) -> None:
    stage = make_stage("assess/template")
    name = stage.corpus.class_names[3]
    again = f"A photo of the class {name} with a hood."
    stage = rebuilt(stage, llm=scripted_llm(lambda prompt: again if "full stop" in prompt else ""))
    artefacts = stage.make_chunk([3])
    (template,) = records_of(artefacts, "templates")
    assert (template.text, template.fallback, template.reason) == (again, False, "")
    assert [exchange.reply for exchange in records_of(artefacts, "exchanges")] == ["", again]


@pytest.mark.parametrize(
    ("reply", "template"),
    [
        (
            "A photo of the class bag with {a strap}{two pockets}.",
            "A photo of the class bag with a strap, two pockets.",
        ),
        ("A photo of the class bag with {a strap}, and {a zip}.", "A photo of the class bag with a strap, a zip."),
        ('"A photo of the class [bag] with {feature 1: a strap}."', "A photo of the class bag with a strap."),
        ("Template 2: A photo of the class {bag} with a strap.", "A photo of the class bag with a strap."),
        ("A photo of the class bag with {feature 1}{feature 2}{...}.", ""),
        ("A photo of the class bag with { }.", ""),
        ("A photo of the class bag.", ""),
        ("Sure!", ""),
        ("", ""),
        (
            "A photo of the class bag with {feature 1}.\nA photo of the class bag with a strap.",
            "A photo of the class bag with a strap.",
        ),
    ],
)
def test_braces_come_off_a_template_and_empty_slots_are_no_features(reply: str, template: str) -> None:
    sentence, reason = summarize.read_template(reply, "bag")
    assert sentence == template
    assert bool(reason) is not bool(template)


def test_a_template_may_leave_out_what_the_name_has_in_parentheses() -> None:
    found, _ = summarize.read_template("A photo of the class kite with {a forked tail}{a hook}.", "kite (bird of prey)")
    assert found == "A photo of the class kite (bird of prey) with a forked tail, a hook."


def test_a_template_is_cut_to_what_clip_reads_by_clips_own_tokenizer(
    make_stage: Any, records_of: Any, scripted_llm: Any
) -> None:
    stage = make_stage("assess/template", "extend.max_clip_tokens=20")
    name = stage.corpus.class_names[3]
    features = ", ".join(f"a strap number {i}" for i in range(30))
    stage = rebuilt(stage, llm=scripted_llm(lambda prompt: f"A photo of the class {name} with {features}."))
    (template,) = records_of(stage.make_chunk([3]), "templates")
    count = load_token_counter(stage.role_folder("clip"))
    start = f"A photo of the class {name} with a strap number 0"
    assert template.text.startswith(start) and template.text.endswith(".") and not template.fallback
    assert count(template.text) <= 20
    assert template.cut == f"A photo of the class {name} with {features}."


@pytest.fixture
def refine_with(make_stage: Any, write_step: Any, scripted_llm: Any) -> Callable[..., Any]:
    """A function (answer, *options) -> (stage, artefacts, model) of round 1's refinement: 0 and 2 were missed."""

    def run(answer: Callable[[str], str], *overrides: str) -> Any:
        stage = make_stage("assess/1/refine", *overrides, model=scripted_llm(answer))
        name = stage.corpus.class_names[4]
        for step, round_, ids in (("draw", 0, (0, 1, 2)), ("assess/0/redraw", 1, (0, 2, 1))):
            rows = [
                GeneratedImage(PNG, 4, name, i, f"A photo of the class {name} with w{i} of round {round_}.", round_, 0)
                for i in ids
            ]
            write_step(stage.run, step, Images("images", rows))
        scores = [Score(4, i, 1, 0.1, 3, failed=() if i == 1 else ("margin",)) for i in (2, 1, 0)]
        write_step(stage.run, "assess/1/detect", Lines("scores", scores))
        (chunk,) = stage.chunks()
        return stage, stage.make_chunk(chunk), stage.model

    return run


def test_missed_descriptions_are_refined_for_the_next_round(refine_with: Any, records_of: Any) -> None:
    _, artefacts, model = refine_with(lambda prompt: prompt.split('"')[1].replace("round 1", "a hood"))
    descriptions = records_of(artefacts, "descriptions")
    assert [d.key for d in descriptions] == [(4, 0, 2), (4, 2, 2)]
    assert all(d.text.endswith("of a hood.") and d.source == "refined" for d in descriptions)
    assert len(model.prompts) == 2


@pytest.mark.parametrize(("refine_from", "round_"), [("last", 1), ("original", 0)])
def test_the_last_or_the_original_text_is_refined(refine_with: Any, refine_from: str, round_: int) -> None:
    _, _, model = refine_with(lambda prompt: "", f"assess.refine_from={refine_from}")
    assert [f"w{i} of round {round_}." in prompt for i, prompt in zip((0, 2), model.prompts, strict=True)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("reply", ["", "I would rather not.", "A photo of the class {name} with " + "word" * 90 + "."])
def test_a_useless_refinement_keeps_the_text_and_is_recorded_with_its_reason(
    refine_with: Any, records_of: Any, reply: str
) -> None:
    stage, artefacts, _ = refine_with(lambda prompt: reply.replace("{name}", context_name(prompt)))
    name = stage.corpus.class_names[4]
    texts = [d.text for d in records_of(artefacts, "descriptions")]
    assert texts == [f"A photo of the class {name} with w{i} of round 1." for i in (0, 2)]
    assert [r.stage for r in records_of(artefacts, "rejected")] == ["refine", "refine"]
    assert all(r.reason for r in records_of(artefacts, "rejected"))


def context_name(prompt: str) -> str:
    return prompt.split("representative of the class ")[1].split(".")[0]


def test_nothing_missed_is_nothing_to_refine(make_stage: Any, write_step: Any) -> None:
    stage = make_stage("assess/0/refine")
    write_step(stage.run, "draw", Images("images", []))
    write_step(stage.run, "assess/0/detect", Lines("scores", [Score(4, 1, 0, 0.9, 1)]))
    assert stage.chunks() == []


def test_structured_descriptions_are_asked_for_by_a_schema_and_rendered(make_stage: Any, records_of: Any) -> None:
    model = ScriptedVlm('```json\n{"features": ["a hood", "a zip"], "scene": "on a hook"}\n```')
    stage = make_stage("describe", "describe.reply_form=structured", model=model)
    name = stage.corpus.class_names[rarest(stage)]
    descriptions = records_of(stage.make_chunk(chunk_of(stage)), "descriptions")
    assert [d.text for d in descriptions] == [f"A photo of the class {name} with a hood and a zip on a hook."] * 2
    assert model.schemas == [DESCRIPTION_SCHEMA]
    assert all('"features"' in turns[0] for turns in model.asked)


def test_the_miniature_that_is_asked_for_json_is_still_understood(make_stage: Any, records_of: Any) -> None:
    stage = make_stage("describe", "describe.reply_form=structured")  # transformers does not hold it to the schema
    artefacts = stage.make_chunk(chunk_of(stage, 4))
    assert len(records_of(artefacts, "descriptions")) + len(records_of(artefacts, "rejected")) == 4
    assert len(records_of(artefacts, "descriptions")) >= 2


def test_a_long_description_of_an_image_is_cut_and_kept_as_it_was(make_stage: Any, records_of: Any) -> None:
    stage = make_stage("describe")
    name = stage.corpus.class_names[rarest(stage)]
    long = f"A photo of the class {name} with {', '.join(f'a hood of {i} seams' for i in range(20))}."
    stage = rebuilt(stage, vlm=ScriptedVlm(long))
    artefacts = stage.make_chunk(chunk_of(stage, 1))
    (description,), (cut,) = records_of(artefacts, "descriptions"), records_of(artefacts, "cut")
    assert (cut.before, cut.after, cut.stage) == (long, description.text, "describe")
    assert len(description.text) < len(long)


def test_refinements_are_structured_where_the_recipe_says_so(refine_with: Any, records_of: Any) -> None:
    reply = '{"features": ["a hood"], "scene": "on a hook"}'
    stage, artefacts, model = refine_with(lambda prompt: reply, "extend.reply_form=structured")
    name = stage.corpus.class_names[4]
    assert {d.text for d in records_of(artefacts, "descriptions")} == {
        f"A photo of the class {name} with a hood on a hook."
    }
    assert model.schemas == [DESCRIPTION_SCHEMA] and all("JSON" in prompt for prompt in model.prompts)
