"""Train one of KMDN's two networks alone: the head classes' (``kmdn/head``) or the tail classes' (``kmdn/tail``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ltgc_local.evaluation.metrics import accuracies, f1_scores
from ltgc_local.evaluation.predictions import predict
from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.class_data import part_of
from ltgc_local.methods.tgn.classes import ClassEntry
from ltgc_local.methods.tgn.kmdn.peer_training import DistillEpoch, Peer, PeerTraining, Validate
from ltgc_local.methods.tgn.network import Network, build_network, image_cache
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.training import train
from ltgc_local.recipe import TgnRecipe
from ltgc_local.recipe.tgn import Backbone, Classifier, Kmdn
from ltgc_local.runs.files import Artefact, Json, Lines
from ltgc_local.training.distributed import main_process_first
from ltgc_local.training.images import ImageSet, Source


class TrainAloneStage(WholeStage[TgnRecipe], TgnStage):
    """Trains the network of one side."""

    def make(self) -> list[Artefact]:
        settings, side = self.recipe.kmdn, self.step.options["side"]
        entries = entries_of(self, side)
        torch.manual_seed(self.seed("network", side))
        network = build_network(settings, len(entries), settings.feature, weights_folder(self))
        return [
            *train_peer(self, "kmdn", settings, build_peer(self, side, entries, network)),
            network.to_file("network"),
        ]


def entries_of(stage: TgnStage, side: str) -> tuple[ClassEntry, ...]:
    """Return the classes of ``head`` or ``tail``, in the order of their logits."""
    manifest = stage.manifest
    return manifest.head if side == "head" else manifest.tail


def weights_folder(stage: TgnStage) -> Path | None:
    """Return the folder of the weights that networks start from; None: they start at random."""
    return stage.role_folder("backbone") if stage.recipe.models.backbone else None


def build_peer(stage: TgnStage, side: str, entries: Sequence[ClassEntry], network: Network) -> Peer:
    """Give a network its side's training images, and its validation on that side's classes."""
    settings, corpus = stage.recipe.kmdn, stage.corpus
    class_ids = [entry.class_id for entry in entries]
    real, val = (part_of(split, class_ids, f"{split.name}-{side}") for split in (corpus.train, corpus.val))
    index = {class_id: number for number, class_id in enumerate(class_ids)}
    targets = np.array([index[label] for label in real.labels.tolist()], dtype=np.int64)
    images = ImageSet((decode(stage, settings, real),), targets)
    validation = ImageSet((decode(stage, settings, val),), val.labels)
    return Peer(side, network, images, validate_on(stage, validation, class_ids, network))


def decode(stage: TgnStage, settings: Backbone, source: Source) -> torch.Tensor:
    """Decode images at the network's size, (N, 3, H, W) uint8."""
    images = image_cache(settings, stage.run.decoded, settings.size_px, stage.recipe.data)
    with main_process_first(stage.recipe.models.device):  # which decodes for all
        return images.load(source)


def validate_on(stage: TgnStage, images: ImageSet, class_ids: Sequence[int], network: Network) -> Validate:
    """Return what measures a network on validation images: accuracies by group, and macro F1, in percent."""
    counts, batch_size, ids = stage.corpus.class_counts(), stage.recipe.evaluate.batch_size, np.array(class_ids)

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        if not len(images):
            return {}
        plain: torch.nn.Module = model.network  # type: ignore[assignment]
        predicted = ids[predict(plain, images, network.normalisation, batch_size)]
        measured = accuracies(predicted, images.labels, counts) | {"macro_f1": f1_scores(predicted, images.labels)[0]}
        return {name: value for name, value in measured.items() if name != "per_class"}  # type: ignore[misc]

    return validate


def train_peer(stage: TgnStage, block: str, settings: Kmdn | Classifier, peer: Peer) -> list[Artefact]:
    """Train a network by itself, in place; return the history and which epoch was kept."""
    epochs = [DistillEpoch(0, None, epoch) for epoch in range(settings.epochs)]
    device, seed = stage.device, stage.seed("fitting")
    training = PeerTraining(block, settings, [peer], epochs, settings.batch_size, seed, device)
    history = train(stage, training, settings.checkpoint_minutes)
    selected = {"select": settings.select, "epoch": training.selections[0].epoch}
    return [Lines("history", history), Json("selected", selected)]
