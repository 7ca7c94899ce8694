"""Which workers start: the scheduler's decisions on paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ltgc_local.pipeline.needs import Needs, modules_of, needs_of
from ltgc_local.pipeline.placement import Candidate, Machine, Worker, heights, place
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe, load_recipe

CHUNKS = Needs(most=None)
ALONE = Needs()
TWO_CORES = Machine(2, (), 8_000)
ROOT = Path(__file__).resolve().parents[2]


def keys(workers: list[Worker[str]]) -> list[str]:
    return [worker.key for worker in workers]


def on_gpu(needs: Needs, gpus: int = 1) -> Needs:
    return replace(needs, gpus=gpus)


def test_the_step_with_the_longest_way_to_go_is_first_and_the_others_get_what_it_leaves_over() -> None:
    ready = [Candidate("control", ALONE, 3), Candidate("describe", CHUNKS, 12), Candidate("template", ALONE, 9)]
    placed = place(TWO_CORES, [], ready)
    assert keys(placed) == ["describe", "template", "control"]
    assert [worker.nice for worker in placed] == [0, 6, 10]


def test_a_step_gets_a_second_worker_although_steps_of_lower_priority_have_the_other_core() -> None:
    running = [Worker("describe", CHUNKS, 12), Worker("control", ALONE, 3)]
    assert keys(place(TWO_CORES, running, [Candidate("describe", CHUNKS, 12, wanted=5)])) == ["describe"]
    assert place(TWO_CORES, [*running, Worker("describe", CHUNKS, 12)], [Candidate("describe", CHUNKS, 12, 4)]) == []


def test_no_more_than_two_threads_per_core_are_in_use() -> None:
    ready = [Candidate(f"row {number}", ALONE, 5) for number in range(9)]
    assert keys(place(TWO_CORES, [], ready)) == ["row 0", "row 1", "row 2", "row 3"]
    four_threads = replace(ALONE, threads=4)
    assert keys(place(TWO_CORES, [], [Candidate("a", four_threads, 5), Candidate("b", four_threads, 5)])) == ["a"]


def test_chunks_that_nobody_makes_decide_how_many_workers_a_step_gets_and_the_recipe_how_many_at_most() -> None:
    machine = Machine(16, (), 99_000)
    assert len(place(machine, [Worker("draw", CHUNKS, 5)], [Candidate("draw", CHUNKS, 5, wanted=3)])) == 3
    two = replace(CHUNKS, most=2)
    assert len(place(machine, [Worker("draw", two, 5)], [Candidate("draw", two, 5, wanted=3)])) == 1


def test_every_worker_has_gpus_of_its_own() -> None:
    machine = Machine(16, ("2", "3", "6", "7"), 99_000)
    placed = place(machine, [], [Candidate("draw", on_gpu(CHUNKS), 5, wanted=9)])
    assert [worker.gpus for worker in placed] == [("2",), ("3",), ("6",), ("7",)]
    placed = place(machine, placed[:1], [Candidate("extend", on_gpu(CHUNKS, 2), 5, wanted=9)])
    assert [worker.gpus for worker in placed] == [("3", "6")]


def test_processes_that_train_together_start_together_or_not_at_all() -> None:
    machine = Machine(16, ("0", "1", "2"), 99_000)
    together = replace(on_gpu(ALONE), processes=2)
    placed = place(machine, [], [Candidate("ltgc", together, 3), Candidate("control", together, 3)])
    assert [(worker.key, worker.gpus) for worker in placed] == [("ltgc", ("0",)), ("ltgc", ("1",))]


def test_steps_wait_for_memory_but_for_the_first_which_is_tried() -> None:
    large = replace(ALONE, memory_mib=6_000)
    assert keys(place(TWO_CORES, [], [Candidate("a", large, 3), Candidate("b", large, 3)])) == ["a"]
    assert keys(place(TWO_CORES, [], [Candidate("a", replace(ALONE, memory_mib=99_000), 3)])) == ["a"]


def test_a_machine_has_room_while_a_core_or_a_gpu_is_idle() -> None:
    assert TWO_CORES.has_room([Worker("a", ALONE, 1)]) and not TWO_CORES.has_room([Worker("a", ALONE, 1)] * 2)
    machine = Machine(64, ("0", "1"), 99_000)
    assert machine.has_room([Worker("a", on_gpu(ALONE), 1, ("0",))])
    assert not machine.has_room([Worker("a", on_gpu(ALONE, 2), 1, ("0", "1"))])


def test_generation_has_a_longer_way_to_go_than_the_control() -> None:
    found = heights(build_plan(load_recipe(ROOT / "recipes/quickstart.yaml")))
    assert found["report"] == 1 and found["evaluate"] == 2 and found["predict/zero_shot"] == 3
    assert found["weigh/ltgc"] == found["weigh/control"] == 4
    assert found["train/control_1"] == found["train/ltgc_1"] == 6
    assert found["describe"] == max(found.values()) == found["extend"] + 1
    assert found["assess/template"] > found["leaks/originals"]


@pytest.mark.parametrize("has_gpus", [True, False])
def test_what_steps_need_follows_from_the_recipe(make_recipe: Callable[..., Recipe], has_gpus: bool) -> None:
    recipe = make_recipe(
        *("models.device=auto", "models.tensor_parallel=2", "models.training_processes=4", "train.batch_size=64")
    )
    sizes = dict.fromkeys(recipe.roles, 1 << 30)
    found = {step.name: needs_of(step, recipe, {}, sizes, has_gpus=has_gpus) for step in build_plan(recipe)}
    assert found["describe"].gpus == found["extend"].gpus == 2 * has_gpus
    assert found["draw"].gpus == found["leaks/originals"].gpus == 1 * has_gpus
    assert found["generated"].gpus == found["leaks/compare"].gpus == found["report"].gpus == 0
    assert (found["draw"].processes, found["draw"].most) == (1, None)
    assert (found["train/ltgc"].processes, found["train/ltgc"].most) == (4, 1)
    assert found["draw"].memory_mib > 2048 > found["generated"].memory_mib


def test_a_worker_needs_its_stage_and_its_backend(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe()
    found = {step.name: modules_of(step, recipe) for step in build_plan(recipe)}
    assert found["report"] == ("ltgc_local.methods.stages.report",)
    assert found["draw"] == ("ltgc_local.methods.ltgc.stages.draw", "ltgc_local.backends.sdxl.engine")
