"""Train networks: KMDN's two, first alone and then by mutual distillation, and each arm's classifier.

``kmdn/head`` and ``kmdn/tail`` train alone; in ``kmdn/distill`` they take turns to teach each other by their feature
maps. The arm ``tgn`` trains on originals and generated images, ``control`` on originals alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ltgc_local.evaluation.metrics import accuracies, f1_scores
from ltgc_local.evaluation.predictions import predict
from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.budget import Member
from ltgc_local.methods.tgn.class_data import Part, index_labels, part_of
from ltgc_local.methods.tgn.kmdn import DistillEpoch, Peer, PeerTraining, Validate, list_epochs
from ltgc_local.methods.tgn.network import Network, build_network, load_network
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.training import train
from ltgc_local.recipe import TgnRecipe
from ltgc_local.recipe.tgn import Backbone, Classifier, Kmdn
from ltgc_local.runs.files import Artefact, Json, Lines
from ltgc_local.runs.generated import GeneratedSplit
from ltgc_local.training.images import ImageSet, Source


class TrainNetworksStage(WholeStage[TgnRecipe], TgnStage):
    """Trains networks with ``PeerTraining``."""

    def _build(self, name: str, settings: Backbone, num_classes: int, feature: str | None) -> Network:
        """Build a network from the recipe's weights, or from random ones that depend on the run's seed and ``name``."""
        torch.manual_seed(self.seed("network", name))
        folder = self.role_folder("backbone") if self.recipe.models.backbone else None
        return build_network(settings, num_classes, feature, folder)

    def _images(self, settings: Backbone, split: Source) -> ImageSet:
        return ImageSet((self.decode(settings, split),), split.labels)

    def _side(self, side: str, network: Network) -> Peer:
        """Give a network its side's training images, and its validation on that side's classes."""
        settings, class_ids = self.recipe.kmdn, [entry.class_id for entry in self.manifest.sides[side]]
        real, val = (part_of(part, class_ids, f"{part.name}-{side}") for part in (self.corpus.train, self.corpus.val))
        images = ImageSet((self.decode(settings, real),), index_labels(real.labels, class_ids))
        return Peer(side, network, images, self._validate_on(self._images(settings, val), class_ids, network))

    def _validate_on(self, images: ImageSet, class_ids: Sequence[int], network: Network) -> Validate:
        """Return the function that measures a network: accuracies by group and macro F1, in percent."""
        counts, batch_size, ids = self.corpus.class_counts(), self.recipe.evaluate.batch_size, np.array(class_ids)

        def validate(model: torch.nn.Module) -> dict[str, float | None]:
            if not len(images):
                return {}
            plain: torch.nn.Module = model.network  # type: ignore[assignment]
            predicted = ids[predict(plain, images, network.normalisation, batch_size)]
            measured = accuracies(predicted, images.labels, counts)
            measured |= {"macro_f1": f1_scores(predicted, images.labels)[0]}
            return {name: value for name, value in measured.items() if name != "per_class"}  # type: ignore[misc]

        return validate

    def _train_alone(self, block: str, settings: Kmdn | Classifier, peer: Peer) -> list[Artefact]:
        epochs = [DistillEpoch(0, None, epoch) for epoch in range(settings.epochs)]
        seed = self.seed("fitting")
        training = PeerTraining(block, settings, [peer], epochs, settings.batch_size, seed, self.device)
        history = train(self, training, settings.checkpoint_minutes)
        selected = Json("selected", {"select": settings.select, "epoch": training.selections[0].epoch})
        return [Lines("history", history), selected, peer.network.to_file("network")]


class TrainAloneStage(TrainNetworksStage):
    """Trains the network of one side."""

    def make(self) -> list[Artefact]:
        settings, side = self.recipe.kmdn, self.step.options["side"]
        network = self._build(side, settings, len(self.manifest.sides[side]), settings.feature)
        return self._train_alone("kmdn", settings, self._side(side, network))


class DistillStage(TrainNetworksStage):
    """Trains both sides' networks by turns."""

    def make(self) -> list[Artefact]:
        settings, peers = self.recipe.kmdn, []
        for side in ("head", "tail"):
            network = load_network(self.run.file_of(self.input(side), "network"))
            if settings.reinit_fc:
                torch.manual_seed(self.seed("last layer", side))
                network.backbone.reset_classifier()
            peers.append(self._side(side, network))
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


class TrainClassifierStage(TrainNetworksStage):
    """Trains the classifier of one arm."""

    def make(self) -> list[Artefact]:
        settings, corpus = self.recipe.classifier, self.corpus
        class_ids = range(len(corpus.class_names))
        network = self._build("classifier", settings, len(class_ids), None)  # both arms start from the same weights
        images = self._images(settings, corpus.train)
        if self.inputs("generated"):
            images += self._images(settings, self.merged_images())
        draws = self.num_draws() if settings.equal_steps else 0
        validate = self._validate_on(self._images(settings, corpus.val), class_ids, network)
        peer = Peer("classifier", network, images, validate, draws, settings.sampler)
        return self._train_alone("classifier", settings, peer)

    def merged_images(self) -> Part:
        """Return the generated images that the list of the step ``merge`` names."""
        generated = GeneratedSplit("generated", self.run.files(self.input("generated"), "images"))
        members = {m.key for m in self.run.iterate(self.input("merged"), "list", Member) if m.origin == "generated"}
        rows = [row for row, key in enumerate(generated.keys) if key in members]
        return Part("generated", generated, np.array(rows, dtype=np.int64))

    def num_draws(self) -> int:
        """Return how many images the larger arm has, originals and generated, by the budget."""
        return len(self.corpus.train) + sum(self.budget.values())
