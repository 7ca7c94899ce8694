"""The list without a model: the template as often as the extended list would be long, and a plan that needs no vlm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ltgc_local.methods.context import StageContext
from ltgc_local.methods.ltgc.stages.template_list import plan_chunks, run_chunk
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe
from ltgc_local.records import Description, Record


def test_every_tail_class_gets_n_y_times_the_template(
    make_context: Callable[..., StageContext], records_of: Callable[..., list[Record]]
) -> None:
    context = make_context("extend", "extend.source=template", "extend.max_descriptions=100")
    (chunk,) = plan_chunks(context)
    found = [d for d in records_of(run_chunk(context, chunk), "descriptions") if isinstance(d, Description)]
    counts, names = context.corpus.class_counts(), context.corpus.class_names
    assert Counter(d.class_id for d in found) == {c: 100 - counts[c] for c in context.tail}
    assert {d.text for d in found} == {f"A photo of the class {names[c]}." for c in context.tail}
    first = {c: min(d.description_id for d in found if d.class_id == c) for c in context.tail}
    assert first == {c: counts[c] for c in context.tail}  # existing ones come first, as in the extended list
    assert len({d.key for d in found}) == len(found)


def test_the_plan_asks_no_vision_language_model_and_only_the_evaluation_asks_the_llm(
    make_recipe: Callable[..., Recipe],
) -> None:
    steps = {step.name: step for step in build_plan(make_recipe("extend.source=template"))}
    assert "describe" not in steps and steps["extend"].model_role is None
    assert not {step.model_role for step in steps.values()} & {"vlm"}
    bare = build_plan(make_recipe("extend.source=template", "assess.enabled=false"))
    assert {step.model_role for step in bare} == {None, "t2i", "clip"}


def test_no_number_of_asks_limits_a_list_that_nobody_is_asked_for(make_recipe: Callable[..., Recipe]) -> None:
    assert make_recipe("extend.source=template", "extend.max_descriptions=800", "extend.max_asks=1")
