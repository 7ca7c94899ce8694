"""Method -> steps. LTGC's figure 2 from left to right, ``assess`` unrolled into rounds; TGN's two networks, generator
and classifier."""

from __future__ import annotations

from collections.abc import Callable

from ltgc_local.methods.base import Step
from ltgc_local.model_store import Role
from ltgc_local.recipe import Recipe

TAIL = "describe.tail_below"
BUDGET = ("extend.max_clip_tokens", "models.t2i")  # how many CLIP tokens, and whose tokenizer counts them
#: Fields of ``train`` that say how generated images are used, of which the control has none.
OF_GENERATED = ("train.mixing", "train.mix_form", "train.mix_alpha", "train.mix_beta")


#: Fields of ``assess`` that say what follows a detection, and not what it finds: rows of a table share it.
NOT_OF_DETECT = ("assess.enabled", "assess.attempts", "assess.refine_from")


def ltgc(recipe: Recipe) -> tuple[Step, ...]:
    """Return LTGC's steps, the control's, and what measures both."""
    steps = list(_descriptions(recipe))
    beside: Role | None = "clip" if recipe.draw.clip_features else None
    steps.append(Step("draw", "ltgc.stages.draw", ("extend",), "t2i", ("draw",), beside=beside))
    drawn, detects = ["draw"], []
    if recipe.assess.enabled:
        budgets = ("extend.max_new_tokens", "extend.max_clip_tokens", "models.clip")
        steps.append(Step("assess/template", "ltgc.stages.summarize", (), "llm", budgets))
        for round_ in range(recipe.assess.attempts):
            detect = f"assess/{round_}/detect"
            steps.append(
                Step(detect, "ltgc.stages.detect", (drawn[-1], "assess/template"), "clip", ("assess",), NOT_OF_DETECT)
            )
            detects.append(detect)
            if round_ + 1 < recipe.assess.attempts:
                refine, redraw = f"assess/{round_}/refine", f"assess/{round_}/redraw"
                reads = tuple(dict.fromkeys((detect, drawn[-1], "draw")))
                steps.append(Step(refine, "ltgc.stages.refine", reads, "llm", ("assess", "extend", BUDGET[1])))
                steps.append(Step(redraw, "ltgc.stages.draw", (refine,), "t2i", ("draw",), beside=beside))
                drawn.append(redraw)
    steps.append(Step("generated", "ltgc.stages.collect", (*drawn, *detects)))
    leaks: tuple[str, ...] = ()
    if recipe.leaks.enabled:
        leaks = ("leaks/compare",)
        steps += _leak_guard()
    arms = ["train/ltgc"]
    steps.append(Step("train/ltgc", "ltgc.stages.train", ("generated",), "clip", ("train",)))
    if recipe.train.control:
        steps.append(Step("train/control", "ltgc.stages.train", (), "clip", ("train",), OF_GENERATED))
        arms.append("train/control")
    measured = list(arms)
    if recipe.evaluate.vlm_classifier:
        asked = ("evaluate.vlm_images_per_class", "evaluate.vlm_names_in_prompt")
        speaking = ("describe.batch_size", "describe.max_new_tokens")
        steps.append(Step("classify", "ltgc.stages.classify", (), "vlm", (*asked, *speaking)))
        measured.append("classify")
    steps.append(Step("evaluate", "ltgc.stages.evaluate", tuple(measured), "clip", ("evaluate", TAIL)))
    text = [step.name for step in steps if step.name in ("describe", "extend", "assess/template")]
    read = (*leaks, "evaluate", "generated", *arms, *text, *drawn, *detects)
    steps.append(Step("report", "stages.report", read, None, ("report",)))
    return tuple(steps)


def _descriptions(recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps up to the list that is drawn: the models' words, or the bare template."""
    if recipe.extend.source == "template":
        settings = ("extend.source", "extend.max_descriptions", "describe.max_images_per_class", TAIL)
        return (Step("extend", "ltgc.stages.template_list", (), None, settings),)
    return (
        Step("describe", "ltgc.stages.describe", (), "vlm", ("describe", *BUDGET)),
        Step("extend", "ltgc.stages.extend", ("describe",), "llm", ("extend", BUDGET[1], TAIL)),
    )


def _leak_guard() -> list[Step]:
    """Return the steps that look for equal and near-duplicate images; runs on the same data share the originals'."""
    reads = ("generated", "leaks/originals", "leaks/generated")
    return [
        Step("leaks/originals", "stages.fingerprint_images", (), "clip", ("leaks.max_embedded", "leaks.shard_size")),
        Step("leaks/generated", "stages.fingerprint_images", ("generated",), "clip"),
        Step("leaks/compare", "stages.compare_images", reads, None, ("leaks.hash_distance", "leaks.cosine")),
    ]


#: Fields of ``kmdn`` that shape distillation alone, and those that shape the networks' training alone.
OF_DISTILLATION = tuple(
    f"kmdn.{key}"
    for key in (
        *("distill", "distill_epochs", "distill_interval", "first_teacher", "distill_batch_size"),
        *("feature", "feature_weight", "reinit_fc", "lr_schedule"),
    )
)
OF_TRAINING_ALONE = ("kmdn.distill", "kmdn.epochs", "kmdn.batch_size")
#: Fields of ``cdtg`` that shape what is generated and not the generator.
OF_GENERATION = ("cdtg.r", "cdtg.shard_size", "cdtg.stored_size_px", "cdtg.stored_mode")
DEVICE = "models.device"


def tgn(recipe: Recipe) -> tuple[Step, ...]:
    """Return TGN's steps, the control's, and what measures both."""
    backbone: Role | None = "backbone" if recipe.models.backbone else None
    steps = [Step("classes", "tgn.stages.class_manifest", (), None, ("split",))]
    networks = ["kmdn/head", "kmdn/tail"]
    for name in networks:
        steps.append(Step(name, "tgn.stages.train_alone", ("classes",), backbone, ("kmdn", DEVICE), OF_DISTILLATION))
    if recipe.kmdn.distill:
        reads = ("classes", *networks)
        steps.append(Step("kmdn/distill", "tgn.stages.distill", reads, None, ("kmdn", DEVICE), OF_TRAINING_ALONE))
        networks.append("kmdn/distill")
    tail = networks[-1]  # the step that made the tail network
    making = _diffusion(recipe, tail) if recipe.draws_by_diffusion else _gan(tail)
    steps += making
    steps.append(Step("merge", "tgn.stages.merge", ("classes", "generated"), None, ("merge",)))
    measures = []
    if recipe.measure.enabled:
        measured = ("measure", "split.prompt")
        steps.append(Step("measure", "tgn.stages.measure", ("classes", "generated", tail), "clip", measured))
        measures.append("measure")
    if recipe.leaks.enabled:
        steps += _leak_guard()
        measures.append("leaks/compare")
    arms = ["train/tgn"]
    learning = ("classifier", DEVICE)
    steps.append(Step("train/tgn", "tgn.stages.train_classifier", ("merge", "generated"), backbone, learning))
    if recipe.classifier.control:
        as_many = ("split", "merge") if recipe.classifier.equal_steps else ()  # which say how many steps those are
        steps.append(Step("train/control", "tgn.stages.train_classifier", (), backbone, (*learning, *as_many)))
        arms.append("train/control")
    tested = ("classes", *networks, *arms)
    steps.append(Step("evaluate", "tgn.stages.evaluate_networks", tested, None, ("evaluate", "kmdn.feature", DEVICE)))
    made = [step.name for step in making if step.name != "generated"]
    read = ("classes", *measures, "evaluate", "generated", "merge", *arms, *networks, *made)
    steps.append(Step("report", "stages.report", read, None, ("report",)))
    return tuple(steps)


def _gan(tail: str) -> list[Step]:
    """Return the steps of TGN's own generator; ``tail`` is the step that made the tail network."""
    cdtg = ("cdtg", "kmdn.feature")
    generation = (*OF_GENERATION, "kmdn.feature", "merge", DEVICE)
    return [
        Step("cdtg/train", "tgn.stages.train_generator", ("classes", tail), "clip", cdtg, OF_GENERATION),
        Step("generated", "tgn.stages.synthesize", ("classes", tail, "cdtg/train"), None, generation),
    ]


#: Fields of ``diffusion`` that shape what is drawn and not the adapter, and those that say what is accepted.
OF_DRAWING = tuple(
    f"diffusion.{key}"
    for key in (
        *("prompts", "r", "feature_scale", "strength", "draw_steps", "guidance", "negative_prompt"),
        *("shard_size", "stored_size_px", "stored_mode"),
    )
)
OF_ACCEPTING = ("diffusion.accept", "diffusion.accept_probability")
ATTEMPTS = "diffusion.attempts"


def _diffusion(recipe: Recipe, tail: str) -> list[Step]:
    """Return the steps of "TGN-style, diffusion": the adapter, and drawing, judging and drawing again."""
    settings = recipe.diffusion
    network = (tail,) if settings.conditioning == "features" else ()
    learnt = ("diffusion", *(["kmdn.feature"] if network else []))
    later = (*OF_DRAWING, *OF_ACCEPTING, ATTEMPTS, "models.unet")
    steps = []
    if settings.prompts == "descriptions":
        steps = [
            Step("describe", "ltgc.stages.describe", ("classes",), "vlm", ("describe", *BUDGET), (TAIL,)),
            Step("extend", "ltgc.stages.extend", ("classes", "describe"), "llm", ("extend", BUDGET[1])),
        ]
    described = ("extend",) if steps else ()
    steps.append(Step("diffusion/train", "tgn.stages.train_adapter", ("classes", *network), "t2i", learnt, later))
    drawing = (*OF_DRAWING, "diffusion.conditioning", "diffusion.size_px", "merge")
    draws: list[str] = []
    accepts: list[str] = []
    for attempt in range(settings.attempts if settings.accept != "none" else 1):
        draw, accept = f"diffusion/{attempt}/draw", f"diffusion/{attempt}/accept"
        reads = ("classes", *network, "diffusion/train", *described, *accepts[-1:])
        steps.append(Step(draw, "tgn.stages.draw_tail", reads, "t2i", drawing))
        draws.append(draw)
        if settings.accept != "none":
            judges = (tail,) if settings.judges_by_tail_network else ()
            clip: Role | None = "clip" if settings.judges_by_clip else None
            asked = (*OF_ACCEPTING, "diffusion.shard_size", *([] if clip else [DEVICE]))
            steps.append(Step(accept, "tgn.stages.accept", (draw, "classes", *judges), clip, asked))
            accepts.append(accept)
    how_many = ("diffusion.shard_size", *([ATTEMPTS] if accepts else []))
    return [*steps, Step("generated", "tgn.stages.collect_accepted", (*draws, *accepts), None, how_many)]


METHODS: dict[str, Callable[[Recipe], tuple[Step, ...]]] = {"ltgc": ltgc, "tgn": tgn}
