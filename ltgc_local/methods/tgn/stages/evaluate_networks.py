"""Evaluate TGN: how often the classifiers are right on the test images, and KMDN's networks on their own classes.

``metrics`` has the same form as LTGC's, plus accuracies on ``head`` and ``tail`` and F1. ``networks`` compares each of
KMDN's networks trained alone with the same one after mutual distillation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltgc_local.evaluation.figures import list_classes, measure_predictions
from ltgc_local.evaluation.intervals import accuracy_intervals
from ltgc_local.evaluation.metrics import accuracies, f1_scores
from ltgc_local.evaluation.rivals import sides_of
from ltgc_local.methods.evaluation import compare_with_rivals, read_predictions
from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.arrays import read_table
from ltgc_local.runs.files import Artefact, Json


class EvaluateNetworksStage(WholeStage[TgnRecipe], TgnStage):
    """Measures what was predicted."""

    def make(self) -> list[Artefact]:
        corpus, by_id = self.corpus, self.manifest.by_id
        predictions, stored = read_predictions(self)
        metrics = measure_predictions(predictions, corpus, self.resampling, "tgn")
        for arm, figures in metrics.items():
            figures |= self._measure_sides(predictions.predicted, arm)
        self.progress.advance(len(corpus.test))
        classes = [each | {"is_head": by_id[each["class_id"]].is_head} for each in list_classes(corpus)]
        sides = sides_of(corpus.class_counts(), [c for c, entry in by_id.items() if not entry.is_head])
        return [
            Json("metrics", metrics),
            Json("classes", classes),
            Json("networks", self._measure_networks()),
            Json("rivals", compare_with_rivals(self, predictions, "tgn", sides)),
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
        parts = [read_table(path) for path in self.run.files(self.input("networks"), "networks")]
        labels, counts = self.corpus.test.labels, self.corpus.class_counts()
        found: dict[str, dict[str, Any]] = {}
        for name in parts[0]:
            side, _, network = name.partition(".")
            mine = np.isin(labels, [entry.class_id for entry in self.manifest.sides[side]])
            predicted = np.concatenate([part[name] for part in parts])
            found.setdefault(side, {})[network] = _figures(predicted[mine], labels[mine], counts)
        return found


def _figures(predicted: np.ndarray, labels: np.ndarray, counts: dict[int, int]) -> dict[str, Any]:
    measured = accuracies(predicted, labels, counts)
    macro, per_class = f1_scores(predicted, labels)
    return {"all": measured["all"], "per_class": measured["per_class"], "macro_f1": macro, "f1": per_class}
