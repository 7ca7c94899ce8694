"""LTGC's steps: in order, one model each, and unrolled as the recipe says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.methods.registry import METHODS
from ltgc_local.methods.stage import ChunkedStage, stage_class
from ltgc_local.pipeline.plan import build_plan, step_settings
from ltgc_local.recipe import Recipe, load_recipe
from ltgc_local.recipe.schema import VARIANTS as VARIANTS_OF_RECIPES

MakeRecipe = Callable[..., Recipe]
VARIANTS = [
    (),
    ("assess.enabled=false",),
    ("assess.attempts=1",),
    ("assess.attempts=5",),
    ("train.control=false",),
    ("leaks.enabled=false",),
    ("assess.enabled=false", "train.control=false"),
    ("evaluate.vlm_classifier=true",),
    ("draw.img2img_strength=0.5",),
    ("draw.clip_features=true",),
]


def test_the_default_is_the_papers_figure_from_left_to_right(make_recipe: MakeRecipe) -> None:
    steps = build_plan(make_recipe())
    assert [(step.name, step.model_role) for step in steps] == [
        ("describe", "vlm"),
        ("extend", "llm"),
        ("draw", "t2i"),
        ("assess/template", "llm"),
        ("assess/0/detect", "clip"),
        ("assess/0/refine", "llm"),
        ("assess/0/redraw", "t2i"),
        ("assess/1/detect", "clip"),
        ("assess/1/refine", "llm"),
        ("assess/1/redraw", "t2i"),
        ("assess/2/detect", "clip"),
        ("generated", None),
        ("leaks/originals", "clip"),
        ("leaks/generated", "clip"),
        ("leaks/compare", None),
        ("train/control", "clip"),
        ("train/ltgc", "clip"),
        ("validate/zero_shot", "clip"),
        ("validate/control", "clip"),
        ("validate/ltgc", "clip"),
        ("predict/zero_shot", "clip"),
        ("predict/control", "clip"),
        ("predict/ltgc", "clip"),
        ("evaluate", None),
        ("report", None),
    ]


def test_clip_is_beside_the_model_that_draws_in_every_round_and_only_where_it_is_asked_for(
    make_recipe: MakeRecipe,
) -> None:
    assert {step.co_resident for step in build_plan(make_recipe())} == {None}
    steps = build_plan(make_recipe("draw.clip_features=true"))
    both = [step.name for step in steps if step.co_resident == "clip"]
    assert both == ["draw", "assess/0/redraw", "assess/1/redraw"]


@pytest.mark.parametrize("overrides", VARIANTS)
def test_steps_read_earlier_steps_only_and_each_once(make_recipe: MakeRecipe, overrides: tuple[str, ...]) -> None:
    earlier: list[str] = []
    for step in build_plan(make_recipe(*overrides)):
        assert step.name not in earlier
        assert set(step.reads) <= set(earlier)
        assert len(set(step.reads)) == len(step.reads)
        earlier.append(step.name)


#: A step's name, or its last word -> the class that does its work, and the role of the model that it works with.
WORK = {
    "describe": ("DescribeStage", "vlm"),
    "extend": ("ExtendStage", "llm"),
    "template": ("SummarizeStage", "llm"),
    "draw": ("DrawStage", "t2i"),
    "redraw": ("DrawStage", "t2i"),
    "detect": ("DetectStage", "clip"),
    "refine": ("RefineStage", "llm"),
    "generated": ("CollectAssessedStage", None),
    "train/ltgc": ("TrainStage", "clip"),
    "train/control": ("TrainStage", "clip"),
    "classify": ("ClassifyStage", "vlm"),
    "report": ("ReportStage", None),
}


@pytest.mark.parametrize("overrides", VARIANTS)
def test_every_step_has_its_stage_and_model_and_every_model_of_the_recipe_has_a_step(
    make_recipe: MakeRecipe, overrides: tuple[str, ...]
) -> None:
    recipe = make_recipe(*overrides)
    assert {step.model_role for step in build_plan(recipe)} - {None} == set(recipe.roles)
    for step in build_plan(recipe):
        work = WORK.get(step.name, WORK.get(step.name.split("/")[-1]))
        if work is not None and step.name != "leaks/generated":
            assert (stage_class(step).__name__, step.model_role) == work
        assert not inspect.isabstract(stage_class(step))
        assert issubclass(stage_class(step), ChunkedStage) == (step.stage.parallel == "chunks")


@pytest.mark.parametrize("overrides", VARIANTS)
def test_what_is_made_is_read_by_someone(make_recipe: MakeRecipe, overrides: tuple[str, ...]) -> None:
    steps = build_plan(make_recipe(*overrides))
    read = {name for step in steps for name in step.reads}
    assert {step.name for step in steps} - read == {"report"}


TGN_VARIANTS: tuple[tuple[str, ...], ...] = (
    (),
    ("kmdn.distill=false",),
    ("classifier.control=false",),
    ("measure.enabled=false", "leaks.enabled=false"),
    ("classifier.equal_steps=false",),
    ("cdtg.features=false",),
)
BY_DIFFUSION = ("generator=diffusion", "cdtg=null", "models.t2i=miniature-sdxl")
DESCRIBED = ("diffusion.prompts=descriptions", "models.vlm=miniature-qwen2.5-vl", "models.llm=miniature-qwen3")
TGN_VARIANTS += (
    BY_DIFFUSION,
    (*BY_DIFFUSION, "diffusion.conditioning=none"),
    (*BY_DIFFUSION, "diffusion.accept=none"),
    (*BY_DIFFUSION, "diffusion.accept=tail_network", "kmdn.distill=false"),
    (*BY_DIFFUSION, *DESCRIBED, "extend.max_asks=40", "extend.max_descriptions=120"),
)


def tgn_recipe(*overrides: str) -> Recipe:
    return load_recipe(Path(__file__).resolve().parents[1] / "recipes/tgn_quickstart.yaml", overrides)


def test_tgns_steps_are_its_networks_its_generator_and_its_classifier() -> None:
    steps = build_plan(tgn_recipe())
    assert [(step.name, step.model_role) for step in steps] == [
        ("classes", None),
        ("kmdn/head", None),
        ("kmdn/tail", None),
        ("kmdn/distill", None),
        ("cdtg/train", "clip"),
        ("generated", None),
        ("merge", None),
        ("measure", "clip"),
        ("leaks/originals", "clip"),
        ("leaks/generated", "clip"),
        ("leaks/compare", None),
        ("train/tgn", None),
        ("train/control", None),
        ("predict/kmdn", None),
        ("validate/tgn", None),
        ("validate/control", None),
        ("predict/tgn", None),
        ("predict/control", None),
        ("evaluate", None),
        ("report", None),
    ]


def test_diffusion_trains_draws_and_judges_in_attempts_each_with_one_model_at_most() -> None:
    steps = {s.name: s for s in build_plan(tgn_recipe(*BY_DIFFUSION, "diffusion.attempts=2"))}
    making = {name: step.model_role for name, step in steps.items() if name.startswith(("diffusion", "cdtg"))}
    assert making == {
        "diffusion/train": "t2i",
        "diffusion/0/draw": "t2i",
        "diffusion/0/accept": "clip",
        "diffusion/1/draw": "t2i",
        "diffusion/1/accept": "clip",
    }
    assert "diffusion/0/accept" in steps["diffusion/1/draw"].reads
    accepts = ("diffusion/0/accept", "diffusion/1/accept")
    assert steps["generated"].reads == ("diffusion/0/draw", "diffusion/1/draw", *accepts)


def test_diffusions_steps_read_the_tail_network_only_where_they_use_it() -> None:
    steps = {s.name: s for s in build_plan(tgn_recipe(*BY_DIFFUSION, "diffusion.accept=tail_network"))}
    assert steps["diffusion/0/accept"].model_role is None and "kmdn/distill" in steps["diffusion/0/accept"].reads
    assert "kmdn/distill" in steps["diffusion/0/draw"].reads
    plain = ("diffusion.conditioning=none", "diffusion.accept=none")
    steps = {s.name: s for s in build_plan(tgn_recipe(*BY_DIFFUSION, *plain))}
    assert "diffusion/0/accept" not in steps and steps["generated"].reads == ("diffusion/0/draw",)
    assert steps["diffusion/train"].reads == ("classes",) and "kmdn/distill" not in steps["diffusion/0/draw"].reads


#: Key of ``diffusion`` -> the first step that it shapes; those that only change the speed shape none.
SHAPED = {
    "diffusion/train": (
        *("lora_rank", "lora_alpha", "lora_targets", "conditioning", "tokens", "r_train", "sampler", "size_px"),
        *("steps", "batch_size", "lr", "warmup_steps", "weight_decay", "prompt_dropout", "feature_dropout"),
        *("log_every", "precision"),
    ),
    "diffusion/0/draw": (
        *("prompts", "r", "feature_scale", "draw_steps", "guidance", "negative_prompt", "shard_size"),
        "stored_mode",
    ),
    "diffusion/0/accept": ("accept", "accept_probability"),
    "generated": ("attempts",),
    "": (
        *("checkpoint_minutes", "in_memory_mib", "decode_workers", "gradient_checkpointing", "draw_batch_size"),
        *("accept_batch_size", "compile"),
    ),
}


def test_every_key_of_diffusion_shapes_the_step_that_it_should_and_none_before() -> None:
    recipe = tgn_recipe(*BY_DIFFUSION, "diffusion.strength=0.5", "diffusion.stored_size_px=28")
    first: dict[str, str] = {}
    for step in build_plan(recipe):
        for path in step_settings(step, recipe):
            if path.startswith("diffusion."):
                first.setdefault(path.removeprefix("diffusion."), step.name)
    expected = {key: step for step, keys in SHAPED.items() if step for key in keys}
    assert first == expected | {"strength": "diffusion/0/draw", "stored_size_px": "diffusion/0/draw"}
    assert set(first) | set(SHAPED[""]) == set(type(recipe.diffusion).model_fields)


def test_a_unet_in_fp8_shapes_what_is_drawn_and_not_the_adapter() -> None:
    recipe = tgn_recipe(*BY_DIFFUSION, "models.unet=fp8")
    shaped = {step.name for step in build_plan(recipe) if "models.unet" in step_settings(step, recipe)}
    assert shaped == {f"diffusion/{attempt}/draw" for attempt in range(recipe.diffusion.attempts)}


def test_descriptions_are_made_by_ltgcs_steps_of_tgns_tail() -> None:
    steps = {s.name: s for s in build_plan(tgn_recipe(*BY_DIFFUSION, *DESCRIBED, "extend.max_descriptions=120"))}
    assert (steps["describe"].model_role, steps["extend"].model_role) == ("vlm", "llm")
    assert "classes" in steps["describe"].reads and "extend" in steps["diffusion/0/draw"].reads
    assert "extend" not in steps["diffusion/train"].reads


@pytest.mark.parametrize("overrides", TGN_VARIANTS)
def test_tgns_steps_read_earlier_ones_and_what_is_made_is_read(overrides: tuple[str, ...]) -> None:
    earlier: list[str] = []
    for step in build_plan(tgn_recipe(*overrides)):
        assert step.name not in earlier and set(step.reads) <= set(earlier)
        assert not inspect.isabstract(stage_class(step))
        assert issubclass(stage_class(step), ChunkedStage) == (step.stage.parallel == "chunks")
        earlier.append(step.name)
    read = {name for step in build_plan(tgn_recipe(*overrides)) for name in step.reads}
    assert set(earlier) - read == {"report"}


def test_without_distillation_the_generator_reads_the_tail_network_that_was_trained_alone() -> None:
    steps = {step.name: step for step in build_plan(tgn_recipe("kmdn.distill=false"))}
    assert "kmdn/distill" not in steps
    assert steps["cdtg/train"].reads == ("classes", "kmdn/tail")
    assert steps["generated"].reads == ("classes", "kmdn/tail", "cdtg/train")


def test_weights_of_a_card_make_the_networks_steps_depend_on_it() -> None:
    recipe = load_recipe(Path(__file__).resolve().parents[1] / "recipes/tgn_dior.yaml", check_files=False)
    roles = {step.name: step.model_role for step in build_plan(recipe)}
    assert roles["kmdn/head"] == roles["train/tgn"] == "backbone"
    assert roles["kmdn/distill"] is None  # it goes on from the files of the two


def test_the_control_depends_on_the_budget_only_where_it_takes_as_many_steps() -> None:
    for equal in ("true", "false"):
        steps = {step.name: step for step in build_plan(tgn_recipe(f"classifier.equal_steps={equal}"))}
        assert ("merge" in steps["train/control"].settings) is (equal == "true")


def names(recipe: Recipe) -> list[str]:
    return [step.name for step in build_plan(recipe)]


def test_without_assessment_every_drawing_trains(make_recipe: MakeRecipe) -> None:
    steps = {step.name: step for step in build_plan(make_recipe("assess.enabled=false"))}
    assert list(steps) == [
        "describe",
        "extend",
        "draw",
        "generated",
        "leaks/originals",
        "leaks/generated",
        "leaks/compare",
        "train/control",
        "train/ltgc",
        "validate/zero_shot",
        "validate/control",
        "validate/ltgc",
        "predict/zero_shot",
        "predict/control",
        "predict/ltgc",
        "evaluate",
        "report",
    ]
    assert steps["generated"].reads == ("draw",)


TABLE_4 = {
    "no iterative evaluation": ("assess.enabled=false",),
    "detection and exclusion only": ("assess.attempts=1",),
    "full": ("assess.attempts=3",),
}


def test_every_row_of_table_4_is_a_recipe_whose_steps_say_what_it_does(make_recipe: MakeRecipe) -> None:
    stages = {
        row: [step.stage.entry.rpartition(".")[2].partition(":")[0] for step in build_plan(make_recipe(*asked))]
        for row, asked in TABLE_4.items()
    }
    counted = {
        row: tuple(found.count(stage) for stage in ("summarize", "detect", "refine", "draw", "collect", "train"))
        for row, found in stages.items()
    }
    assert counted == {
        "no iterative evaluation": (0, 0, 0, 1, 1, 2),
        "detection and exclusion only": (1, 1, 0, 1, 1, 2),
        "full": (1, 3, 2, 3, 1, 2),
    }


def test_the_vlm_classifies_before_the_evaluation_when_it_is_asked_to(make_recipe: MakeRecipe) -> None:
    steps = {step.name: step for step in build_plan(make_recipe("evaluate.vlm_classifier=true"))}
    assert (steps["classify"].model_role, steps["classify"].reads) == ("vlm", ())
    assert (steps["evaluate"].model_role, steps["evaluate"].reads[-1]) == ("clip", "classify")
    assert "classify" not in names(make_recipe())


def test_a_prior_is_predicted_where_an_ensemble_needs_one(make_recipe: MakeRecipe) -> None:
    asked = "evaluate.zero_shot_weight=0.5"
    steps = {step.name: step for step in build_plan(make_recipe(asked))}
    assert steps["predict/ltgc"].reads == ("train/ltgc", "predict/prior")
    assert steps["predict/prior"].reads == ()
    assert "predict/prior" not in names(make_recipe()) + names(make_recipe(asked, "evaluate.zero_shot_prior=none"))


def test_one_attempt_detects_and_excludes_without_refining(make_recipe: MakeRecipe) -> None:
    assess = [name for name in names(make_recipe("assess.attempts=1")) if name.startswith("assess")]
    assert assess == ["assess/template", "assess/0/detect"]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_every_attempt_is_scored_and_all_but_the_last_refined(make_recipe: MakeRecipe, attempts: int) -> None:
    found = names(make_recipe(f"assess.attempts={attempts}"))
    assert [name for name in found if name.endswith("detect")] == [f"assess/{i}/detect" for i in range(attempts)]
    assert [name for name in found if name.endswith("redraw")] == [f"assess/{i}/redraw" for i in range(attempts - 1)]


def test_each_round_scores_the_drawings_of_the_round_before(make_recipe: MakeRecipe) -> None:
    steps = {step.name: step for step in build_plan(make_recipe())}
    assert steps["assess/0/detect"].reads == ("draw", "assess/template")
    assert steps["assess/0/refine"].reads == ("assess/0/detect", "draw")
    assert steps["assess/1/detect"].reads == ("assess/0/redraw", "assess/template")
    assert steps["assess/1/refine"].reads == ("assess/1/detect", "assess/0/redraw", "draw")
    assert set(steps["generated"].reads) == {
        "draw", "assess/0/redraw", "assess/1/redraw", "assess/0/detect", "assess/1/detect", "assess/2/detect",
    }  # fmt: skip


def test_the_control_sees_no_generated_image_and_can_be_left_out(make_recipe: MakeRecipe) -> None:
    steps = {step.name: step for step in build_plan(make_recipe())}
    assert steps["train/control"].reads == ()
    assert steps["train/ltgc"].reads == ("generated",)
    arms = ("zero_shot", "control", "ltgc")
    assert steps["evaluate"].reads == tuple(f"{kind}/{arm}" for kind in ("predict", "validate") for arm in arms)
    assert steps["predict/ltgc"].reads == ("train/ltgc",) and not steps["predict/zero_shot"].reads
    assert "train/control" not in names(make_recipe("train.control=false"))


def test_there_is_a_plan_for_every_method_of_the_schema() -> None:
    assert set(METHODS) == {choices[0] for choices in VARIANTS_OF_RECIPES}
