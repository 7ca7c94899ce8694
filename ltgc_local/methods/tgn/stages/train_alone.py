"""Train one of KMDN's two networks alone: the head classes' (``kmdn/head``) or the tail classes' (``kmdn/tail``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.evaluation.metrics import accuracies, f1_scores
from ltgc_local.evaluation.predictions import predict
from ltgc_local.methods.context import Chunk, StageContext
from ltgc_local.methods.tgn.class_data import LabelledImages, part_of
from ltgc_local.methods.tgn.classes import ClassEntry, read_manifest
from ltgc_local.methods.tgn.kmdn.fitting import Fitting, Learner, Lesson, Validate
from ltgc_local.methods.tgn.network import Network, build_network, decoding_of
from ltgc_local.recipe.schema import Backbone
from ltgc_local.runs.files import Artefact, Json, Lines
from ltgc_local.training.arm_data import ImageSet
from ltgc_local.training.checkpoints import CHECKPOINT
from ltgc_local.training.pixels import Source
from ltgc_local.training.together import first_process_first

NUMBERED = False


def plan_chunks(context: StageContext) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext, chunk: Sequence[str]) -> list[Artefact]:
    settings, side = context.recipe.kmdn, context.step.name.rpartition("/")[2]
    entries = entries_of(context, side)
    torch.manual_seed(context.seed("network", side))
    network = build_network(settings, len(entries), settings.feature, weights_folder(context))
    learner = build_learner(context, side, entries, network)
    lessons = [Lesson(0, None, epoch) for epoch in range(settings.epochs)]
    fitting = start_fitting(context, [learner], lessons, settings, settings.batch_size)
    history = fitting.run(context.progress.advance)
    selected = {"select": settings.select, "epoch": learner.epoch}
    return [Lines("history", history), Json("selected", selected), network.to_file("network")]


def entries_of(context: StageContext, side: str) -> tuple[ClassEntry, ...]:
    """Return the classes of ``head`` or ``tail``, in the order of their logits."""
    manifest = read_manifest(context.run)
    return manifest.head if side == "head" else manifest.tail


def weights_folder(context: StageContext) -> Path | None:
    """Return the folder of the weights that networks start from; None: they start at random."""
    return context.role_folder("backbone") if context.recipe.models.backbone else None


def build_learner(context: StageContext, side: str, entries: Sequence[ClassEntry], network: Network) -> Learner:
    """Give a network its side's training images, and its validation on that side's classes."""
    settings, corpus = context.recipe.kmdn, context.corpus
    class_ids = [entry.class_id for entry in entries]
    train, val = (part_of(split, class_ids, f"{split.name}-{side}") for split in (corpus.train, corpus.val))
    index = {class_id: number for number, class_id in enumerate(class_ids)}
    targets = np.array([index[label] for label in train.labels.tolist()], dtype=np.int64)
    images = LabelledImages((decode(context, settings, train),), targets)
    validation = ImageSet(decode(context, settings, val), val.labels)
    return Learner(side, network, images, validate_on(context, validation, class_ids, network))


def decode(context: StageContext, settings: Backbone, source: Source) -> torch.Tensor:
    """Decode images at the network's size, (N, 3, H, W) uint8."""
    decoding = decoding_of(settings, context.run.decoded, settings.size_px, context.recipe.data)
    with first_process_first():  # which decodes for all
        return decoding.load(source)


def validate_on(context: StageContext, images: ImageSet, class_ids: Sequence[int], network: Network) -> Validate:
    """Return what measures a network on validation images: accuracies by group, and macro F1, in percent."""
    counts, batch_size, ids = context.corpus.class_counts(), context.recipe.evaluate.batch_size, np.array(class_ids)

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        if not len(images):
            return {}
        plain: torch.nn.Module = model.network  # type: ignore[assignment]
        predicted = ids[predict(plain, images, network.normalisation, batch_size)]
        measured = accuracies(predicted, images.labels, counts) | {"macro_f1": f1_scores(predicted, images.labels)[0]}
        return {name: value for name, value in measured.items() if name != "per_class"}  # type: ignore[misc]

    return validate


def start_fitting(
    context: StageContext,
    learners: Sequence[Learner],
    lessons: Sequence[Lesson],
    settings: Backbone,
    batch_size: int,
    feature_weight: float = 0.0,
) -> Fitting:
    """Prepare a training, or take it up where its checkpoint is."""
    checkpoint = context.run.folder(context.step.name) / CHECKPOINT
    device = resolve_device(context.recipe.models.device)
    seed = context.seed("fitting")
    fitting = Fitting(learners, lessons, settings, batch_size, seed, device, feature_weight, checkpoint)
    context.progress.expect(fitting.num_images)
    context.progress.advance(fitting.num_done)
    return fitting
