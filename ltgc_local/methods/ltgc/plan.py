"""LTGC's steps: the paper's figure 2 from left to right, ``assess`` unrolled into rounds."""

from __future__ import annotations

from ltgc_local.methods.base import Inputs, StageSpec, Step, leak_guard, report_on
from ltgc_local.methods.ltgc.arms import plan_arms
from ltgc_local.model_store.cards import Role
from ltgc_local.recipe import LtgcRecipe

DESCRIBE = StageSpec("ltgc.stages.describe:DescribeStage", "chunks")
EXTEND = StageSpec("ltgc.stages.extend:ExtendStage", "chunks")
TEMPLATE_LIST = StageSpec("ltgc.stages.extend:TemplateListStage")
DRAW = StageSpec("ltgc.stages.draw:DrawStage", "chunks")
SUMMARIZE = StageSpec("ltgc.stages.summarize:SummarizeStage", "chunks")
DETECT = StageSpec("ltgc.stages.detect:DetectStage", "chunks")
REFINE = StageSpec("ltgc.stages.refine:RefineStage", "chunks")
COLLECT = StageSpec("ltgc.stages.collect:CollectAssessedStage", "chunks")
CLASSIFY = StageSpec("ltgc.stages.classify:ClassifyStage", "chunks")
EVALUATE = StageSpec("ltgc.stages.evaluate:EvaluateStage")

TAIL = "describe.tail_below"
BUDGET = ("extend.max_clip_tokens", "models.t2i")  # the limit on CLIP tokens, and the model whose tokenizer counts


def plan_ltgc(recipe: LtgcRecipe) -> tuple[Step, ...]:
    """Return the steps of LTGC and its control, and those that measure both."""
    steps = text = _descriptions(recipe)
    co_resident: Role | None = "clip" if recipe.draw.clip_features else None
    draws = [Step("draw", DRAW, {"descriptions": (text[-1],)}, "t2i", ("draw",), co_resident=co_resident)]
    detects: list[Step] = []
    steps = [*steps, draws[0]]
    if recipe.assess.enabled:
        budgets = ("extend.max_new_tokens", "extend.max_clip_tokens", "models.clip")
        template = Step("assess/template", SUMMARIZE, {}, "llm", budgets)
        text = [*text, template]
        steps.append(template)
        for round_ in range(recipe.assess.attempts):
            judged: Inputs = {"images": (draws[-1],), "templates": (template,)}
            detects.append(Step(f"assess/{round_}/detect", DETECT, judged, "clip", ("assess",)))
            steps.append(detects[-1])
            if round_ + 1 < recipe.assess.attempts:
                missed: Inputs = {"scores": (detects[-1],), "last draw": (draws[-1],), "first draw": (draws[0],)}
                rewriting = ("assess", "assess:refine", "extend", BUDGET[1])
                refine = Step(f"assess/{round_}/refine", REFINE, missed, "llm", rewriting)
                refined: Inputs = {"descriptions": (refine,)}
                draws.append(Step(f"assess/{round_}/redraw", DRAW, refined, "t2i", ("draw",), co_resident=co_resident))
                steps += [refine, draws[-1]]
    generated = Step("generated", COLLECT, {"draws": tuple(draws), "scores": tuple(detects)})
    leaks = leak_guard(generated) if recipe.leaks.enabled else []
    arms = plan_arms(recipe, generated)
    answers: list[Step] = []
    if recipe.evaluate.vlm_classifier:
        asked = ("evaluate.vlm_images_per_class", "evaluate.vlm_names_in_prompt")
        speaking = ("describe.batch_size", "describe.max_new_tokens")
        answers.append(Step("classify", CLASSIFY, {}, "vlm", (*asked, *speaking)))
    measured: Inputs = {
        "predictions": arms.predictions,
        "validations": arms.validations,
        "weights": arms.weights,
        "answers": tuple(answers),
    }
    named: Role | None = "clip" if answers else None  # an answer that names no class is compared with all
    evaluate = Step("evaluate", EVALUATE, measured, named, ("evaluate", TAIL))
    report = report_on(*leaks[-1:], evaluate, generated, *arms.trainings, *text, *draws, *detects)
    return (*steps, generated, *leaks, *arms.steps, *answers, evaluate, report)


def _descriptions(recipe: LtgcRecipe) -> list[Step]:
    """Return the steps up to the list of descriptions: the models' words, or the bare template."""
    if recipe.extend.source == "template":
        settings = ("extend.source", "extend.max_descriptions", "describe.max_images_per_class", TAIL)
        return [Step("extend", TEMPLATE_LIST, {}, None, settings)]
    describe = Step("describe", DESCRIBE, {}, "vlm", ("describe", *BUDGET))
    return [describe, Step("extend", EXTEND, {"descriptions": (describe,)}, "llm", ("extend", BUDGET[1], TAIL))]
