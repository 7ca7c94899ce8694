"""Distill: KMDN's two networks teach each other by turns, from their feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.methods.context import Chunk, StageContext
from ltgc_local.methods.tgn.kmdn.peer_training import PeerTraining, list_epochs
from ltgc_local.methods.tgn.network import load_network
from ltgc_local.methods.tgn.stages.train_alone import build_peer, entries_of
from ltgc_local.methods.training import train
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact, Json, Lines

NUMBERED = False
SIDES = ("head", "tail")


def plan_chunks(context: StageContext[TgnRecipe]) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext[TgnRecipe], chunk: Sequence[str]) -> list[Artefact]:
    settings = context.recipe.kmdn
    peers = []
    for side in SIDES:
        network = load_network(context.run.files(f"kmdn/{side}", "network")[0])
        if settings.reinit_fc:
            torch.manual_seed(context.seed("last layer", side))
            network.backbone.reset_classifier()
        peers.append(build_peer(context, side, entries_of(context, side), network))
    training = PeerTraining(
        "kmdn",
        settings,
        peers,
        list_epochs(settings),
        settings.distill_batch_size,
        context.seed("fitting"),
        resolve_device(context.recipe.models.device),
        settings.feature_weight,
    )
    history = train(context, training, settings.checkpoint_minutes)
    epochs = {peer.name: selection.epoch for peer, selection in zip(peers, training.selections, strict=True)}
    files = [peer.network.to_file(peer.name) for peer in peers]
    return [Lines("history", history), Json("selected", {"select": settings.select, **epochs}), *files]
