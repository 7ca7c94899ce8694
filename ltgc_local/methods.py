"""Method -> steps. LTGC's figure 2 from left to right; ``assess`` is unrolled into rounds."""

from __future__ import annotations

from collections.abc import Callable

from ltgc_local.recipe import Recipe
from ltgc_local.steps import Step

TAIL = "describe.tail_below"
BUDGET = ("extend.max_clip_tokens", "models.t2i")  # how many CLIP tokens, and whose tokenizer counts them
#: Fields of ``train`` that say how generated images are used, of which the control has none.
OF_GENERATED = ("train.mixing", "train.mix_form", "train.mix_alpha", "train.mix_beta")


#: Fields of ``assess`` that say what follows a detection, and not what it finds: rows of a table share it.
NOT_OF_DETECT = ("assess.enabled", "assess.attempts", "assess.refine_from")


def ltgc(recipe: Recipe) -> tuple[Step, ...]:
    """Return LTGC's steps, the control's, and what measures both."""
    steps = list(_descriptions(recipe))
    steps.append(Step("draw", "draw", ("extend",), "t2i", ("draw",)))
    drawn, detects = ["draw"], []
    if recipe.assess.enabled:
        budgets = ("extend.max_new_tokens", "extend.max_clip_tokens", "models.clip")
        steps.append(Step("assess/template", "summarize", (), "llm", budgets))
        for round_ in range(recipe.assess.attempts):
            detect = f"assess/{round_}/detect"
            steps.append(Step(detect, "detect", (drawn[-1], "assess/template"), "clip", ("assess",), NOT_OF_DETECT))
            detects.append(detect)
            if round_ + 1 < recipe.assess.attempts:
                refine, redraw = f"assess/{round_}/refine", f"assess/{round_}/redraw"
                reads = tuple(dict.fromkeys((detect, drawn[-1], "draw")))
                steps.append(Step(refine, "refine", reads, "llm", ("assess", "extend", BUDGET[1])))
                steps.append(Step(redraw, "draw", (refine,), "t2i", ("draw",)))
                drawn.append(redraw)
    steps.append(Step("generated", "collect", (*drawn, *detects)))
    leaks: tuple[str, ...] = ()
    if recipe.leaks.enabled:
        leaks = ("leaks/compare",)
        compared = ("leaks.hash_distance", "leaks.cosine")
        reads = ("generated", "leaks/originals", "leaks/generated")
        sampled = ("leaks.max_embedded", "leaks.shard_size")
        steps.append(Step("leaks/originals", "fingerprint_images", (), "clip", sampled))  # rows of a table share it
        steps.append(Step("leaks/generated", "fingerprint_images", ("generated",), "clip"))
        steps.append(Step("leaks/compare", "compare_images", reads, None, compared))
    arms = ["train/ltgc"]
    steps.append(Step("train/ltgc", "train", ("generated",), "clip", ("train",)))
    if recipe.train.control:
        steps.append(Step("train/control", "train", (), "clip", ("train",), OF_GENERATED))
        arms.append("train/control")
    measured = list(arms)
    if recipe.evaluate.vlm_classifier:
        asked = ("evaluate.vlm_images_per_class", "evaluate.vlm_names_in_prompt")
        speaking = ("describe.batch_size", "describe.max_new_tokens")
        steps.append(Step("classify", "classify", (), "vlm", (*asked, *speaking)))
        measured.append("classify")
    steps.append(Step("evaluate", "evaluate", tuple(measured), "clip", ("evaluate", TAIL)))
    text = [step.name for step in steps if step.name in ("describe", "extend", "assess/template")]
    read = (*leaks, "evaluate", "generated", *arms, *text, *drawn, *detects)
    steps.append(Step("report", "report", read, None, ("report",)))
    return tuple(steps)


def _descriptions(recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps up to the list that is drawn: the models' words, or the bare template."""
    if recipe.extend.source == "template":
        settings = ("extend.source", "extend.max_descriptions", "describe.max_images_per_class", TAIL)
        return (Step("extend", "template_list", (), None, settings),)
    return (
        Step("describe", "describe", (), "vlm", ("describe", *BUDGET)),
        Step("extend", "extend", ("describe",), "llm", ("extend", BUDGET[1], TAIL)),
    )


METHODS: dict[str, Callable[[Recipe], tuple[Step, ...]]] = {"ltgc": ltgc}
