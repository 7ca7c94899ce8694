"""Evaluate, of TGN: the classifiers on the test images, and KMDN's networks on those of their own classes.

It is the only step that tests on them. ``metrics`` is as LTGC's, with ``head``, ``tail`` and F1 beside the other
figures. ``networks`` compares each of KMDN's networks trained alone with the same one after mutual distillation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.evaluation.figures import columns_of, list_classes, measure_predictions
from ltgc_local.evaluation.intervals import accuracy_intervals
from ltgc_local.evaluation.metrics import accuracies, f1_scores
from ltgc_local.evaluation.predictions import PLAIN, Predictions, View, iterate_logits
from ltgc_local.methods.context import Chunk, StageContext
from ltgc_local.methods.tgn.class_data import part_of
from ltgc_local.methods.tgn.classes import ClassManifest, read_manifest
from ltgc_local.methods.tgn.network import Network, SquareResize, load_network
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact, Json, Table, Tensors

NUMBERED = False
DISTILL = "kmdn/distill"


@dataclass(frozen=True)
class Reader:
    """The device and the normalisation of the networks that read a split together."""

    device: str
    normalisation: tuple[torch.Tensor, torch.Tensor]
    views: dict[str, View]


def plan_chunks(context: StageContext[TgnRecipe]) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext[TgnRecipe], chunk: Sequence[str]) -> list[Artefact]:
    manifest, test = read_manifest(context.run), context.corpus.test
    arms = {s.rpartition("/")[2]: s for s in context.step.reads if s.startswith("train/")}
    networks = {arm: _load(context, context.run.files(step, "network")[0]) for arm, step in arms.items()}
    reader = reader_of(context, next(iter(networks.values())))
    models = {arm: network.backbone.network for arm, network in networks.items()}
    settings, threads = context.recipe.evaluate, context.decode_threads
    predictions, kept = Predictions(len(test)), []
    context.progress.expect(2 * len(test))
    for rows, logits in iterate_logits(reader, test, models, reader.views, settings.batch_size, threads):
        for (arm, _), values in logits.items():
            predictions.add(arm, rows, values)
        if settings.store_logits:
            kept.append({arm: logits[arm, PLAIN].half() for arm in models})
        context.progress.advance(len(rows))
    metrics = measure_predictions(predictions, context.corpus, context.resampling, "tgn")
    for arm, figures in metrics.items():
        figures |= measure_sides(context, manifest, predictions, arm)
    classes = [each | {"is_head": each["class_id"] not in manifest.tail_index} for each in list_classes(context.corpus)]
    artefacts: list[Artefact] = [
        Json("metrics", metrics),
        Json("classes", classes),
        Json("networks", measure_networks(context, manifest)),
        Table("predictions", columns_of(predictions, context.corpus)),
    ]
    if settings.store_logits:
        artefacts.append(Tensors("logits", {arm: torch.cat([batch[arm] for batch in kept]) for arm in models}))
    return artefacts


def measure_sides(
    context: StageContext[TgnRecipe], manifest: ClassManifest, predictions: Predictions, arm: str
) -> dict[str, Any]:
    """Return an arm's accuracy on head and tail, with intervals, and its F1."""
    labels, counts, resampling = context.corpus.test.labels, context.corpus.class_counts(), context.resampling
    predicted = predictions.predicted[arm]
    is_tail = np.isin(labels, list(manifest.tail_index))
    macro, per_class = f1_scores(predicted, labels)
    intervals, differences, found = {}, {}, {}
    for side, mine in (("head", ~is_tail), ("tail", is_tail)):
        correct = predicted[mine] == labels[mine]
        found[side] = accuracies(predicted[mine], labels[mine], counts)["all"]
        intervals[side] = accuracy_intervals(correct, labels[mine], counts, resampling)["all"]
        if arm != "control" and "control" in predictions.predicted:
            other = predictions.predicted["control"][mine] == labels[mine]
            differences[side] = accuracy_intervals(correct, labels[mine], counts, resampling, other)["all"]
    return {**found, "macro_f1": macro, "f1": per_class, "side_interval": intervals, "side_minus_control": differences}


def measure_networks(context: StageContext[TgnRecipe], manifest: ClassManifest) -> dict[str, dict[str, Any]]:
    """Return {side: {"alone" or "distilled": figures}} of KMDN's networks on the test images of their classes."""
    found: dict[str, dict[str, Any]] = {}
    counts, settings = context.corpus.class_counts(), context.recipe.evaluate
    threads = context.decode_threads
    for side, entries in (("head", manifest.head), ("tail", manifest.tail)):
        files = {"alone": context.run.files(f"kmdn/{side}", "network")[0]}
        if DISTILL in context.step.reads:
            files["distilled"] = context.run.files(DISTILL, side)[0]
        networks = {name: _load(context, path) for name, path in files.items()}
        ids = np.array([entry.class_id for entry in entries])
        part = part_of(context.corpus.test, ids.tolist(), f"test-{side}")
        predictions = Predictions(len(part))
        reader = reader_of(context, networks["alone"])
        models = {name: network.backbone.network for name, network in networks.items()}
        for rows, logits in iterate_logits(reader, part, models, reader.views, settings.batch_size, threads):
            for (name, _), values in logits.items():
                predictions.add(name, rows, values)
            context.progress.advance(len(rows))
        found[side] = {name: _figures(ids[predictions.predicted[name]], part.labels, counts) for name in networks}
    return found


def reader_of(context: StageContext[TgnRecipe], network: Network) -> Reader:
    """Return how networks of one block read images."""
    still = SquareResize(network.size_px)
    device = resolve_device(context.recipe.models.device)
    return Reader(device, network.normalisation, {PLAIN: lambda image: [still(image)]})


def _figures(predicted: np.ndarray, labels: np.ndarray, counts: dict[int, int]) -> dict[str, Any]:
    measured = accuracies(predicted, labels, counts)
    macro, per_class = f1_scores(predicted, labels)
    return {"all": measured["all"], "per_class": measured["per_class"], "macro_f1": macro, "f1": per_class}


def _load(context: StageContext[TgnRecipe], path: Path) -> Network:
    network = load_network(path)
    network.backbone.to(resolve_device(context.recipe.models.device))
    return network
