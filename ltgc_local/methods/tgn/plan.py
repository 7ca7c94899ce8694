"""TGN's steps: the two networks, the generator or SDXL in its place, and the classifier."""

from __future__ import annotations

from ltgc_local.methods.base import Inputs, StageSpec, Step, leak_guard, report_on
from ltgc_local.methods.ltgc.plan import BUDGET, DESCRIBE, EXTEND
from ltgc_local.model_store.cards import Role
from ltgc_local.recipe import DescribedRecipe, DiffusionRecipe, TgnRecipe

CLASS_MANIFEST = StageSpec("tgn.stages.merge:ClassManifestStage")
TRAIN_ALONE = StageSpec("tgn.stages.train_networks:TrainAloneStage", "distributed")
DISTILL = StageSpec("tgn.stages.train_networks:DistillStage", "distributed")
TRAIN_GENERATOR = StageSpec("tgn.stages.train_generator:TrainGeneratorStage", "distributed")
SYNTHESIZE = StageSpec("tgn.stages.synthesize:SynthesizeStage", "chunks")
TRAIN_ADAPTER = StageSpec("tgn.stages.train_adapter:TrainAdapterStage", "distributed")
DRAW_TAIL = StageSpec("tgn.stages.draw_tail:DrawTailStage", "chunks")
ACCEPT = StageSpec("tgn.stages.accept:AcceptStage", "chunks")
COLLECT_ACCEPTED = StageSpec("tgn.stages.accept:CollectAcceptedStage", "chunks")
MERGE = StageSpec("tgn.stages.merge:MergeStage")
MEASURE = StageSpec("tgn.stages.measure:MeasureStage")
TRAIN_CLASSIFIER = StageSpec("tgn.stages.train_networks:TrainClassifierStage", "distributed")
PREDICT_ARM = StageSpec("tgn.stages.predict_networks:PredictArmStage", "chunks")
PREDICT_SIDES = StageSpec("tgn.stages.predict_networks:PredictSidesStage", "chunks")
EVALUATE_NETWORKS = StageSpec("tgn.stages.evaluate_networks:EvaluateNetworksStage")

DEVICE = ("models.device", "models.threads")
TOGETHER = (*DEVICE, "models.training_processes")  # of a training


def plan_tgn(recipe: TgnRecipe) -> tuple[Step, ...]:
    """Return the steps of TGN and its control, and those that measure both."""
    backbone: Role | None = "backbone" if recipe.models.backbone else None
    classes = Step("classes", CLASS_MANIFEST, {}, None, ("split",))
    manifest: Inputs = {"classes": (classes,)}
    alone = ("kmdn", "kmdn:alone", *TOGETHER)
    head, tail = (
        Step(f"kmdn/{side}", TRAIN_ALONE, manifest, backbone, alone, options={"side": side})
        for side in ("head", "tail")
    )
    networks = [head, tail]
    inputs: Inputs = {**manifest, "head": (head,), "tail": (tail,)}
    if recipe.kmdn.distill:
        networks.append(Step("kmdn/distill", DISTILL, inputs, None, ("kmdn", "kmdn:distill", *TOGETHER)))
        inputs = {**inputs, "distilled": (networks[-1],)}
    tail_network: Inputs = {"tail network": (networks[-1],)}
    known: Inputs = {**manifest, **tail_network}
    making = _diffusion(recipe, manifest, tail_network) if isinstance(recipe, DiffusionRecipe) else _gan(known)
    images: Inputs = {"generated": (making[-1],)}
    merge = Step("merge", MERGE, {**manifest, **images}, None, ("merge",))
    measures = []
    if recipe.measure.enabled:
        measured = ("measure", "split.prompt")
        measures.append(Step("measure", MEASURE, {**manifest, **images, **tail_network}, "clip", measured))
    leaks = leak_guard(making[-1]) if recipe.leaks.enabled else []
    learning = ("classifier", *TOGETHER)
    arms = [Step("train/tgn", TRAIN_CLASSIFIER, {"merged": (merge,), **images}, backbone, learning, arm="tgn")]
    if recipe.classifier.control:
        as_many = ("split", "merge") if recipe.classifier.equal_steps else ()  # these decide the number of steps
        arms.append(Step("train/control", TRAIN_CLASSIFIER, {}, backbone, (*learning, *as_many), arm="control"))
    predicting = ("evaluate:predict", *DEVICE)
    validations, predictions = (
        [
            Step(
                f"{kind}/{each.arm}",
                PREDICT_ARM,
                {"arm": (each,)},
                None,
                predicting,
                arm=each.arm,
                is_seeded=False,
                options={"split": split},
            )
            for each in arms
        ]
        for kind, split in (("validate", "val"), ("predict", "test"))
    )
    sides = Step("predict/kmdn", PREDICT_SIDES, inputs, None, predicting, is_seeded=False)
    measured_on: Inputs = {**manifest, "predictions": tuple(predictions), "networks": (sides,)}
    measured_on = {**measured_on, "validations": tuple(validations)}
    evaluate = Step("evaluate", EVALUATE_NETWORKS, measured_on, None, ("evaluate",))
    report = report_on(classes, *measures, *leaks[-1:], evaluate, making[-1], merge, *arms, *networks, *making[:-1])
    return (
        classes,
        *networks,
        *making,
        merge,
        *measures,
        *leaks,
        *arms,
        sides,
        *validations,
        *predictions,
        evaluate,
        report,
    )


def _gan(known: Inputs) -> list[Step]:
    """Return the steps of TGN's own generator."""
    train = Step("cdtg/train", TRAIN_GENERATOR, known, "clip", ("cdtg", "kmdn.feature", "models.training_processes"))
    generation = ("cdtg:generate", "kmdn.feature", "merge", *DEVICE)
    return [train, Step("generated", SYNTHESIZE, {**known, "generator": (train,)}, None, generation)]


def _diffusion(recipe: DiffusionRecipe, manifest: Inputs, tail_network: Inputs) -> list[Step]:
    """Return the steps of "TGN-style, diffusion": the adapter, then attempts to generate images and accept them."""
    settings = recipe.diffusion
    steps: list[Step] = []
    described: Inputs = {}
    if isinstance(recipe, DescribedRecipe):
        describe = Step("describe", DESCRIBE, manifest, "vlm", ("describe", *BUDGET))
        asked = {**manifest, "descriptions": (describe,)}
        steps = [describe, Step("extend", EXTEND, asked, "llm", ("extend", BUDGET[1]))]
        described = {"descriptions": (steps[-1],)}
    network: Inputs = tail_network if settings.conditioning == "features" else {}
    learnt = ("diffusion", "diffusion:train", "models.training_processes", *(["kmdn.feature"] if network else []))
    adapter = Step("diffusion/train", TRAIN_ADAPTER, {**manifest, **network}, "t2i", learnt, ("models.unet",))
    steps.append(adapter)
    draws: list[Step] = []
    accepts: list[Step] = []
    for attempt in range(settings.attempts if settings.accept != "none" else 1):
        inputs = {**manifest, **network, "adapter": (adapter,), **described, "last scores": tuple(accepts[-1:])}
        drawing, options = ("diffusion:draw", "merge"), {"attempt": attempt}
        draws.append(Step(f"diffusion/{attempt}/draw", DRAW_TAIL, inputs, "t2i", drawing, options=options))
        steps.append(draws[-1])
        if settings.accept != "none":
            judges: Inputs = tail_network if settings.judges_by_tail_network else {}
            inputs = {"images": (draws[-1],), **manifest, **judges}
            clip: Role | None = "clip" if settings.judges_by_clip else None
            judging = ("diffusion:accept", *(() if clip else DEVICE))
            accepts.append(Step(f"diffusion/{attempt}/accept", ACCEPT, inputs, clip, judging))
            steps.append(accepts[-1])
    how_many = ("diffusion:collect", *(["diffusion:retry"] if accepts else []))
    inputs = {"draws": tuple(draws), "scores": tuple(accepts)}
    return [*steps, Step("generated", COLLECT_ACCEPTED, inputs, None, how_many)]
