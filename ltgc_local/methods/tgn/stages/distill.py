"""Distill: KMDN's two networks teach each other by turns, from their feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ltgc_local.methods.context import Chunk, StageContext
from ltgc_local.methods.tgn.kmdn.distillation import list_lessons
from ltgc_local.methods.tgn.network import load_network
from ltgc_local.methods.tgn.stages.train_alone import build_learner, entries_of, start_fitting
from ltgc_local.runs.files import Artefact, Json, Lines

NUMBERED = False
SIDES = ("head", "tail")


def plan_chunks(context: StageContext) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext, chunk: Sequence[str]) -> list[Artefact]:
    settings = context.recipe.kmdn
    learners = []
    for side in SIDES:
        network = load_network(context.run.files(f"kmdn/{side}", "network")[0])
        if settings.reinit_fc:
            torch.manual_seed(context.seed("last layer", side))
            network.backbone.reset_classifier()
        learners.append(build_learner(context, side, entries_of(context, side), network))
    fitting = start_fitting(
        context,
        learners,
        list_lessons(settings),
        settings,
        settings.distill_batch_size,
        settings.feature_weight,
    )
    history = fitting.run(context.progress.advance)
    selected = {"select": settings.select, **{learner.name: learner.epoch for learner in learners}}
    files = [learner.network.to_file(learner.name) for learner in learners]
    return [Lines("history", history), Json("selected", selected), *files]
