"""Train the classifier: the arm ``tgn`` on originals and generated images, ``control`` on originals alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ltgc_local.methods.context import Chunk, StageContext
from ltgc_local.methods.tgn.budget import Member, count_wanted
from ltgc_local.methods.tgn.class_data import Part
from ltgc_local.methods.tgn.classes import build_manifest
from ltgc_local.methods.tgn.kmdn.peer_training import Peer
from ltgc_local.methods.tgn.network import build_network
from ltgc_local.methods.tgn.stages.train_alone import decode, train_peer, validate_on, weights_folder
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact
from ltgc_local.runs.generated import GeneratedSplit
from ltgc_local.training.images import ImageSet

NUMBERED = False


def plan_chunks(context: StageContext[TgnRecipe]) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext[TgnRecipe], chunk: Sequence[str]) -> list[Artefact]:
    settings, corpus, arm = context.recipe.classifier, context.corpus, context.step.name.rpartition("/")[2]
    torch.manual_seed(context.seed("network", "classifier"))  # the same for both arms
    network = build_network(settings, len(corpus.class_names), None, weights_folder(context))
    images = ImageSet((decode(context, settings, corpus.train),), corpus.train.labels)
    if arm != "control":
        generated = merged_images(context)
        images += ImageSet((decode(context, settings, generated),), generated.labels)
    draws = num_draws(context.recipe, context) if settings.equal_steps else 0
    validation = ImageSet((decode(context, settings, corpus.val),), corpus.val.labels)
    validate = validate_on(context, validation, range(len(corpus.class_names)), network)
    peer = Peer("classifier", network, images, validate, draws, settings.sampler)
    return [*train_peer(context, "classifier", settings, peer), network.to_file("network")]


def merged_images(context: StageContext[TgnRecipe]) -> Part:
    """Return the generated images that the list of the step ``merge`` names."""
    drawn = GeneratedSplit("generated", context.run.files("generated", "images"))
    members = {m.key for m in context.run.records("merge", "list", Member) if m.origin == "generated"}
    rows = [row for row, key in enumerate(drawn.keys) if key in members]
    return Part("generated", drawn, np.array(rows, dtype=np.int64))


def num_draws(recipe: TgnRecipe, context: StageContext[TgnRecipe]) -> int:
    """Return the images of the larger arm, originals and generated, by the budget."""
    corpus = context.corpus
    manifest = build_manifest(corpus.class_names, corpus.class_counts(), recipe.split)
    return len(corpus.train) + sum(count_wanted(manifest, recipe.merge).values())
