"""Train the classifier: the arm ``tgn`` on originals and generated images, ``control`` on originals alone."""

from __future__ import annotations

import numpy as np
import torch

from ltgc_local.methods.stage import Stage, WholeStage
from ltgc_local.methods.tgn.budget import Member, count_wanted
from ltgc_local.methods.tgn.class_data import Part
from ltgc_local.methods.tgn.classes import build_manifest
from ltgc_local.methods.tgn.kmdn.peer_training import Peer
from ltgc_local.methods.tgn.network import build_network
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.tgn.stages.train_alone import decode, train_peer, validate_on, weights_folder
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact
from ltgc_local.runs.generated import GeneratedSplit
from ltgc_local.training.images import ImageSet


class TrainClassifierStage(WholeStage[TgnRecipe], TgnStage):
    """Trains one arm."""

    def make(self) -> list[Artefact]:
        settings, corpus = self.recipe.classifier, self.corpus
        torch.manual_seed(self.seed("network", "classifier"))  # the same for both arms
        network = build_network(settings, len(corpus.class_names), None, weights_folder(self))
        images = ImageSet((decode(self, settings, corpus.train),), corpus.train.labels)
        if self.inputs("generated"):
            generated = merged_images(self)
            images += ImageSet((decode(self, settings, generated),), generated.labels)
        draws = num_draws(self.recipe, self) if settings.equal_steps else 0
        validation = ImageSet((decode(self, settings, corpus.val),), corpus.val.labels)
        validate = validate_on(self, validation, range(len(corpus.class_names)), network)
        peer = Peer("classifier", network, images, validate, draws, settings.sampler)
        return [*train_peer(self, "classifier", settings, peer), network.to_file("network")]


def merged_images(stage: TgnStage) -> Part:
    """Return the generated images that the list of the step ``merge`` names."""
    drawn = GeneratedSplit("generated", stage.run.files(stage.input("generated"), "images"))
    members = {m.key for m in stage.run.records(stage.input("merged"), "list", Member) if m.origin == "generated"}
    rows = [row for row, key in enumerate(drawn.keys) if key in members]
    return Part("generated", drawn, np.array(rows, dtype=np.int64))


def num_draws(recipe: TgnRecipe, context: Stage[TgnRecipe]) -> int:
    """Return the images of the larger arm, originals and generated, by the budget."""
    corpus = context.corpus
    manifest = build_manifest(corpus.class_names, corpus.class_counts(), recipe.split)
    return len(corpus.train) + sum(count_wanted(manifest, recipe.merge).values())
