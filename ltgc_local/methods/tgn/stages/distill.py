"""Distill: KMDN's two networks teach each other by turns, from their feature maps."""

from __future__ import annotations

import torch

from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.kmdn.peer_training import PeerTraining, list_epochs
from ltgc_local.methods.tgn.network import load_network
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.tgn.stages.train_alone import build_peer, entries_of
from ltgc_local.methods.training import train
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact, Json, Lines

SIDES = ("head", "tail")


class DistillStage(WholeStage[TgnRecipe], TgnStage):
    """Trains both networks by turns."""

    def make(self) -> list[Artefact]:
        settings = self.recipe.kmdn
        peers = []
        for side in SIDES:
            network = load_network(self.run.files(self.input(side), "network")[0])
            if settings.reinit_fc:
                torch.manual_seed(self.seed("last layer", side))
                network.backbone.reset_classifier()
            peers.append(build_peer(self, side, entries_of(self, side), network))
        training = PeerTraining(
            "kmdn",
            settings,
            peers,
            list_epochs(settings),
            settings.distill_batch_size,
            self.seed("fitting"),
            self.device,
            settings.feature_weight,
        )
        history = train(self, training, settings.checkpoint_minutes)
        epochs = {peer.name: selection.epoch for peer, selection in zip(peers, training.selections, strict=True)}
        files = [peer.network.to_file(peer.name) for peer in peers]
        return [Lines("history", history), Json("selected", {"select": settings.select, **epochs}), *files]
