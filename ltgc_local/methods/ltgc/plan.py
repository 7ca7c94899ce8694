"""LTGC's steps: the paper's figure 2 from left to right, ``assess`` unrolled into rounds."""

from __future__ import annotations

from ltgc_local.methods.base import REPORT, StageSpec, Step, leak_guard
from ltgc_local.model_store.cards import Role
from ltgc_local.recipe import LtgcRecipe

DESCRIBE = StageSpec("ltgc.stages.describe", "chunks")
EXTEND = StageSpec("ltgc.stages.extend", "chunks")
TEMPLATE_LIST = StageSpec("ltgc.stages.template_list")
DRAW = StageSpec("ltgc.stages.draw", "chunks")
SUMMARIZE = StageSpec("ltgc.stages.summarize", "chunks")
DETECT = StageSpec("ltgc.stages.detect", "chunks")
REFINE = StageSpec("ltgc.stages.refine", "chunks")
COLLECT = StageSpec("ltgc.stages.collect")
CLASSIFY = StageSpec("ltgc.stages.classify", "chunks")
TRAIN = StageSpec("ltgc.stages.train", "distributed")
EVALUATE = StageSpec("ltgc.stages.evaluate")

TAIL = "describe.tail_below"
BUDGET = ("extend.max_clip_tokens", "models.t2i")  # how many CLIP tokens, and whose tokenizer counts them


def plan_ltgc(recipe: LtgcRecipe) -> tuple[Step, ...]:
    """Return LTGC's steps, the control's, and what measures both."""
    steps = list(_descriptions(recipe))
    co_resident: Role | None = "clip" if recipe.draw.clip_features else None
    steps.append(Step("draw", DRAW, ("extend",), "t2i", ("draw",), co_resident=co_resident))
    drawn, detects = ["draw"], []
    if recipe.assess.enabled:
        budgets = ("extend.max_new_tokens", "extend.max_clip_tokens", "models.clip")
        steps.append(Step("assess/template", SUMMARIZE, (), "llm", budgets))
        for round_ in range(recipe.assess.attempts):
            detect = f"assess/{round_}/detect"
            steps.append(Step(detect, DETECT, (drawn[-1], "assess/template"), "clip", ("assess",)))
            detects.append(detect)
            if round_ + 1 < recipe.assess.attempts:
                refine, redraw = f"assess/{round_}/refine", f"assess/{round_}/redraw"
                reads = tuple(dict.fromkeys((detect, drawn[-1], "draw")))
                steps.append(Step(refine, REFINE, reads, "llm", ("assess", "assess:refine", "extend", BUDGET[1])))
                steps.append(Step(redraw, DRAW, (refine,), "t2i", ("draw",), co_resident=co_resident))
                drawn.append(redraw)
    steps.append(Step("generated", COLLECT, (*drawn, *detects)))
    leaks: tuple[str, ...] = ()
    if recipe.leaks.enabled:
        leaks = ("leaks/compare",)
        steps += leak_guard()
    arms = ["train/ltgc"]
    steps.append(Step("train/ltgc", TRAIN, ("generated",), "clip", ("train", "train:generated"), arm="ltgc"))
    if recipe.train.control:
        steps.append(Step("train/control", TRAIN, (), "clip", ("train",), arm="control"))
        arms.append("train/control")
    measured = list(arms)
    if recipe.evaluate.vlm_classifier:
        asked = ("evaluate.vlm_images_per_class", "evaluate.vlm_names_in_prompt")
        speaking = ("describe.batch_size", "describe.max_new_tokens")
        steps.append(Step("classify", CLASSIFY, (), "vlm", (*asked, *speaking)))
        measured.append("classify")
    steps.append(Step("evaluate", EVALUATE, tuple(measured), "clip", ("evaluate", TAIL)))
    text = [step.name for step in steps if step.name in ("describe", "extend", "assess/template")]
    read = (*leaks, "evaluate", "generated", *arms, *text, *drawn, *detects)
    steps.append(Step("report", REPORT, read, None, ("report",)))
    return tuple(steps)


def _descriptions(recipe: LtgcRecipe) -> tuple[Step, ...]:
    """Return the steps up to the list that is drawn: the models' words, or the bare template."""
    if recipe.extend.source == "template":
        settings = ("extend.source", "extend.max_descriptions", "describe.max_images_per_class", TAIL)
        return (Step("extend", TEMPLATE_LIST, (), None, settings),)
    return (
        Step("describe", DESCRIBE, (), "vlm", ("describe", *BUDGET)),
        Step("extend", EXTEND, ("describe",), "llm", ("extend", BUDGET[1], TAIL)),
    )
