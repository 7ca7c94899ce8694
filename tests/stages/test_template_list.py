"""The list without a model: as many templates as the extended list would have, and a plan that needs no vlm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ltgc_local.methods.stage import Stage
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe
from ltgc_local.records import Description, Record


def test_every_tail_class_gets_n_y_times_the_template(
    make_stage: Callable[..., Stage], records_of: Callable[..., list[Record]]
) -> None:
    stage = make_stage("extend", "extend.source=template", "extend.max_descriptions=100")
    found = [d for d in records_of(stage.make(), "descriptions") if isinstance(d, Description)]
    counts, names = stage.corpus.class_counts(), stage.corpus.class_names
    assert Counter(d.class_id for d in found) == {c: 100 - counts[c] for c in stage.tail}
    assert {d.text for d in found} == {f"A photo of the class {names[c]}." for c in stage.tail}
    first = {c: min(d.description_id for d in found if d.class_id == c) for c in stage.tail}
    assert first == {c: counts[c] for c in stage.tail}  # existing ones come first, as in the extended list
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
