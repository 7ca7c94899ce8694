"""Evaluate TGN: the classifiers on the test images, and KMDN's networks on the test images of their own classes.

No other step tests on them. ``metrics`` has the same form as LTGC's, plus accuracies on ``head`` and ``tail`` and F1.
``networks`` compares each of KMDN's networks trained alone with the same one after mutual distillation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ltgc_local.evaluation.figures import columns_of, list_classes, measure_predictions
from ltgc_local.evaluation.intervals import accuracy_intervals
from ltgc_local.evaluation.metrics import accuracies, f1_scores
from ltgc_local.evaluation.predictions import PLAIN, Images, Predictions
from ltgc_local.methods.evaluation import predict
from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.class_data import part_of
from ltgc_local.methods.tgn.network import Network, SquareResize, load_network
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact, Json, Table, Tensors


@dataclass(frozen=True)
class Reader:
    """The device and the normalisation of networks that read a split together."""

    device: str
    normalisation: tuple[torch.Tensor, torch.Tensor]


class EvaluateNetworksStage(WholeStage[TgnRecipe], TgnStage):
    """Runs every network on the test images."""

    def make(self) -> list[Artefact]:
        corpus, by_id = self.corpus, self.manifest.by_id
        networks = {step.arm: self._load(step.name, "network") for step in self.inputs("arms")}
        self.progress.expect(2 * len(corpus.test))
        predictions, stored = self._predict(corpus.test, networks)
        metrics = measure_predictions(predictions, corpus, self.resampling, "tgn")
        for arm, figures in metrics.items():
            figures |= self._measure_sides(predictions.predicted, arm)
        classes = [each | {"is_head": by_id[each["class_id"]].is_head} for each in list_classes(corpus)]
        return [
            Json("metrics", metrics),
            Json("classes", classes),
            Json("networks", self._measure_networks()),
            Table("predictions", columns_of(predictions, corpus)),
            *stored,
        ]

    def _measure_sides(self, predicted: Mapping[str, np.ndarray], arm: str) -> dict[str, Any]:
        """Return an arm's accuracy on head and tail, with intervals, and its F1."""
        labels, counts = self.corpus.test.labels, self.corpus.class_counts()
        macro, per_class = f1_scores(predicted[arm], labels)
        found, intervals, differences = {}, {}, {}
        for side, entries in self.manifest.sides.items():
            mine = np.isin(labels, [entry.class_id for entry in entries])
            correct = {name: of_arm[mine] == labels[mine] for name, of_arm in predicted.items()}
            found[side] = accuracies(predicted[arm][mine], labels[mine], counts)["all"]
            sampled = correct[arm], labels[mine], counts, self.resampling
            intervals[side] = accuracy_intervals(*sampled)["all"]
            if arm != "control" and "control" in predicted:
                differences[side] = accuracy_intervals(*sampled, correct["control"])["all"]
        f1 = {"macro_f1": macro, "f1": per_class}
        return {**found, **f1, "side_interval": intervals, "side_minus_control": differences}

    def _measure_networks(self) -> dict[str, dict[str, Any]]:
        """Return {side: {"alone" or "distilled": figures}} for KMDN's networks on the test images of their classes."""
        found: dict[str, dict[str, Any]] = {}
        for side, entries in self.manifest.sides.items():
            networks = {"alone": self._load(self.input(side), "network")}
            for step in self.inputs("distilled"):
                networks["distilled"] = self._load(step.name, side)
            ids = np.array([entry.class_id for entry in entries])
            part = part_of(self.corpus.test, ids.tolist(), f"test-{side}")
            predictions, _ = self._predict(part, networks)
            counts = self.corpus.class_counts()
            found[side] = {name: _figures(ids[predictions.predicted[name]], part.labels, counts) for name in networks}
        return found

    def _predict(self, split: Images, networks: Mapping[str, Network]) -> tuple[Predictions, list[Tensors]]:
        """Run networks of one block, which read images alike, over a split."""
        first = next(iter(networks.values()))
        resize = SquareResize(first.size_px)
        models = {name: network.backbone.network for name, network in networks.items()}
        reader = Reader(self.device, first.normalisation)
        return predict(self, reader, split, models, {PLAIN: lambda image: [resize(image)]})

    def _load(self, step: str, kind: str) -> Network:
        network = load_network(self.run.file_of(step, kind))
        network.backbone.to(self.device)
        return network


def _figures(predicted: np.ndarray, labels: np.ndarray, counts: dict[int, int]) -> dict[str, Any]:
    measured = accuracies(predicted, labels, counts)
    macro, per_class = f1_scores(predicted, labels)
    return {"all": measured["all"], "per_class": measured["per_class"], "macro_f1": macro, "f1": per_class}
