"""Method -> steps. LTGC's figure 2 from left to right; ``assess`` is unrolled into rounds."""

from __future__ import annotations

from collections.abc import Callable

from ltgc_local.recipe import Recipe
from ltgc_local.steps import Step

TAIL = "describe.tail_below"
#: Fields of ``train`` that say how generated images are used, of which the control has none.
OF_GENERATED = ("train.mixing", "train.mix_alpha")


def ltgc(recipe: Recipe) -> tuple[Step, ...]:
    """Return LTGC's steps, the control's, and what measures both."""
    steps = list(_descriptions(recipe))
    steps.append(Step("draw", "draw", ("extend",), "t2i", ("draw",)))
    drawn, detects = ["draw"], []
    if recipe.assess.enabled:
        steps.append(
            Step("assess/template", "summarize", (), "llm", ("extend.max_new_tokens", "extend.max_clip_tokens", TAIL))
        )
        for round_ in range(recipe.assess.attempts):
            detect = f"assess/{round_}/detect"
            steps.append(Step(detect, "detect", (drawn[-1], "assess/template"), "clip", ("assess",)))
            detects.append(detect)
            if round_ + 1 < recipe.assess.attempts:
                refine, redraw = f"assess/{round_}/refine", f"assess/{round_}/redraw"
                reads = tuple(dict.fromkeys((detect, drawn[-1], "draw")))
                steps.append(Step(refine, "refine", reads, "llm", ("assess", "extend", "models.t2i")))
                steps.append(Step(redraw, "draw", (refine,), "t2i", ("draw",)))
                drawn.append(redraw)
    steps.append(Step("generated", "collect", (*drawn, *detects)))
    arms = ["train/ltgc"]
    steps.append(Step("train/ltgc", "train", ("generated",), "clip", ("train",)))
    if recipe.train.control:
        steps.append(Step("train/control", "train", (), "clip", ("train",), OF_GENERATED))
        arms.append("train/control")
    steps.append(Step("evaluate", "evaluate", tuple(arms), "clip", ("evaluate", TAIL)))
    text = [step.name for step in steps if step.name in ("describe", "extend", "assess/template")]
    steps.append(Step("report", "report", ("evaluate", "generated", *arms, *text, *drawn, *detects), None, ("report",)))
    return tuple(steps)


def _descriptions(recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps up to the list that is drawn: the models' words, or the bare template."""
    if recipe.extend.source == "template":
        settings = ("extend.source", "extend.max_descriptions", "describe.max_images_per_class", TAIL)
        return (Step("extend", "template_list", (), None, settings),)
    return (
        Step("describe", "describe", (), "vlm", ("describe",)),
        Step("extend", "extend", ("describe",), "llm", ("extend", "models.t2i", TAIL)),
    )


METHODS: dict[str, Callable[[Recipe], tuple[Step, ...]]] = {"ltgc": ltgc}
