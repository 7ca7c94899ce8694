"""TGN's steps: the two networks, the generator or SDXL in its place, and the classifier."""

from __future__ import annotations

from ltgc_local.methods.base import REPORT, StageSpec, Step, leak_guard
from ltgc_local.methods.ltgc.plan import BUDGET, DESCRIBE, EXTEND
from ltgc_local.model_store.cards import Role
from ltgc_local.recipe import DescribedRecipe, DiffusionRecipe, TgnRecipe

CLASS_MANIFEST = StageSpec("tgn.stages.class_manifest")
TRAIN_ALONE = StageSpec("tgn.stages.train_alone", "distributed")
DISTILL = StageSpec("tgn.stages.distill", "distributed")
TRAIN_GENERATOR = StageSpec("tgn.stages.train_generator", "distributed")
SYNTHESIZE = StageSpec("tgn.stages.synthesize")
TRAIN_ADAPTER = StageSpec("tgn.stages.train_adapter")
DRAW_TAIL = StageSpec("tgn.stages.draw_tail", "chunks")
ACCEPT = StageSpec("tgn.stages.accept", "chunks")
COLLECT_ACCEPTED = StageSpec("tgn.stages.collect_accepted")
MERGE = StageSpec("tgn.stages.merge")
MEASURE = StageSpec("tgn.stages.measure")
TRAIN_CLASSIFIER = StageSpec("tgn.stages.train_classifier", "distributed")
EVALUATE_NETWORKS = StageSpec("tgn.stages.evaluate_networks")

DEVICE = "models.device"


def plan_tgn(recipe: TgnRecipe) -> tuple[Step, ...]:
    """Return TGN's steps, the control's, and what measures both."""
    backbone: Role | None = "backbone" if recipe.models.backbone else None
    steps = [Step("classes", CLASS_MANIFEST, (), None, ("split",))]
    networks = ["kmdn/head", "kmdn/tail"]
    for name in networks:
        steps.append(Step(name, TRAIN_ALONE, ("classes",), backbone, ("kmdn", "kmdn:alone", DEVICE)))
    if recipe.kmdn.distill:
        reads = ("classes", *networks)
        steps.append(Step("kmdn/distill", DISTILL, reads, None, ("kmdn", "kmdn:distill", DEVICE)))
        networks.append("kmdn/distill")
    tail = networks[-1]  # the step that made the tail network
    making = _diffusion(recipe, tail) if isinstance(recipe, DiffusionRecipe) else _gan(tail)
    steps += making
    steps.append(Step("merge", MERGE, ("classes", "generated"), None, ("merge",)))
    measures = []
    if recipe.measure.enabled:
        measured = ("measure", "split.prompt")
        steps.append(Step("measure", MEASURE, ("classes", "generated", tail), "clip", measured))
        measures.append("measure")
    if recipe.leaks.enabled:
        steps += leak_guard()
        measures.append("leaks/compare")
    arms = ["train/tgn"]
    learning = ("classifier", DEVICE)
    steps.append(Step("train/tgn", TRAIN_CLASSIFIER, ("merge", "generated"), backbone, learning, arm="tgn"))
    if recipe.classifier.control:
        as_many = ("split", "merge") if recipe.classifier.equal_steps else ()  # which say how many steps those are
        steps.append(Step("train/control", TRAIN_CLASSIFIER, (), backbone, (*learning, *as_many), arm="control"))
        arms.append("train/control")
    tested = ("classes", *networks, *arms)
    steps.append(Step("evaluate", EVALUATE_NETWORKS, tested, None, ("evaluate", "kmdn.feature", DEVICE)))
    made = [step.name for step in making if step.name != "generated"]
    read = ("classes", *measures, "evaluate", "generated", "merge", *arms, *networks, *made)
    steps.append(Step("report", REPORT, read, None, ("report",)))
    return tuple(steps)


def _gan(tail: str) -> list[Step]:
    """Return the steps of TGN's own generator; ``tail`` is the step that made the tail network."""
    cdtg = ("cdtg", "kmdn.feature")
    generation = ("cdtg:generate", "kmdn.feature", "merge", DEVICE)
    return [
        Step("cdtg/train", TRAIN_GENERATOR, ("classes", tail), "clip", cdtg),
        Step("generated", SYNTHESIZE, ("classes", tail, "cdtg/train"), None, generation),
    ]


def _diffusion(recipe: DiffusionRecipe, tail: str) -> list[Step]:
    """Return the steps of "TGN-style, diffusion": the adapter, and drawing, judging and drawing again."""
    settings = recipe.diffusion
    network = (tail,) if settings.conditioning == "features" else ()
    learnt = ("diffusion", "diffusion:train", *(["kmdn.feature"] if network else []))
    steps = []
    if isinstance(recipe, DescribedRecipe):
        steps = [
            Step("describe", DESCRIBE, ("classes",), "vlm", ("describe", *BUDGET)),
            Step("extend", EXTEND, ("classes", "describe"), "llm", ("extend", BUDGET[1])),
        ]
    described = ("extend",) if steps else ()
    steps.append(Step("diffusion/train", TRAIN_ADAPTER, ("classes", *network), "t2i", learnt, ("models.unet",)))
    draws: list[str] = []
    accepts: list[str] = []
    for attempt in range(settings.attempts if settings.accept != "none" else 1):
        draw, accept = f"diffusion/{attempt}/draw", f"diffusion/{attempt}/accept"
        reads = ("classes", *network, "diffusion/train", *described, *accepts[-1:])
        steps.append(Step(draw, DRAW_TAIL, reads, "t2i", ("diffusion:draw", "merge")))
        draws.append(draw)
        if settings.accept != "none":
            judges = (tail,) if settings.judges_by_tail_network else ()
            clip: Role | None = "clip" if settings.judges_by_clip else None
            asked = ("diffusion:accept", *([] if clip else [DEVICE]))
            steps.append(Step(accept, ACCEPT, (draw, "classes", *judges), clip, asked))
            accepts.append(accept)
    how_many = ("diffusion:collect", *(["diffusion:retry"] if accepts else []))
    return [*steps, Step("generated", COLLECT_ACCEPTED, (*draws, *accepts), None, how_many)]
