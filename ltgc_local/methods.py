"""Method -> steps. LTGC's figure 2 from left to right; ``assess`` is unrolled into rounds."""

from __future__ import annotations

from collections.abc import Callable

from ltgc_local.recipe import Recipe
from ltgc_local.steps import Step

TAIL = "describe.tail_below"
BUDGET = ("extend.max_clip_tokens", "models.t2i")  # how many CLIP tokens, and whose tokenizer counts them


def ltgc(recipe: Recipe) -> tuple[Step, ...]:
    """Return LTGC's steps, the control's, and what measures both."""
    steps = [
        Step("describe", "describe", (), "vlm", ("describe", *BUDGET)),
        Step("extend", "extend", ("describe",), "llm", ("extend", BUDGET[1], TAIL)),
        Step("draw", "draw", ("extend",), "t2i", ("draw",)),
    ]
    drawn, detects = ["draw"], []
    if recipe.assess.enabled:
        steps.append(Step("assess/template", "summarize", (), "llm", ("extend.max_new_tokens", *BUDGET, TAIL)))
        for round_ in range(recipe.assess.attempts):
            detect = f"assess/{round_}/detect"
            steps.append(Step(detect, "detect", (drawn[-1], "assess/template"), "clip", ("assess",)))
            detects.append(detect)
            if round_ + 1 < recipe.assess.attempts:
                refine, redraw = f"assess/{round_}/refine", f"assess/{round_}/redraw"
                reads = tuple(dict.fromkeys((detect, drawn[-1], "draw")))
                steps.append(Step(refine, "refine", reads, "llm", ("assess", "extend", BUDGET[1])))
                steps.append(Step(redraw, "draw", (refine,), "t2i", ("draw",)))
                drawn.append(redraw)
    steps.append(Step("generated", "collect", (*drawn, *detects)))
    arms = ["train/ltgc"]
    steps.append(Step("train/ltgc", "train", ("generated",), "clip", ("train",)))
    if recipe.train.control:
        steps.append(Step("train/control", "train", (), "clip", ("train",)))
        arms.append("train/control")
    steps.append(Step("evaluate", "evaluate", tuple(arms), "clip", ("evaluate", TAIL)))
    text = ("describe", "extend", "assess/template") if recipe.assess.enabled else ("describe", "extend")
    steps.append(Step("report", "report", ("evaluate", "generated", *arms, *text, *drawn, *detects), None, ("report",)))
    return tuple(steps)


METHODS: dict[str, Callable[[Recipe], tuple[Step, ...]]] = {"ltgc": ltgc}
