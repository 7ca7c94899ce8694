"""Predict: a classifier on the validation or the test images, and KMDN's networks on the test images of their classes.

No other step tests on them. ``predictions`` has an arm's prediction for every test image; ``networks`` has those of
KMDN's networks, as class ids, and -1 for images of the other side's classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ltgc_local.evaluation.predictions import PLAIN, Predictions
from ltgc_local.methods.evaluation import RowSpan, predict, predicted_files, predicted_spans
from ltgc_local.methods.stage import ChunkedStage
from ltgc_local.methods.tgn.network import Network, SquareResize, load_network
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact, Table

OTHER_SIDE = -1


@dataclass(frozen=True)
class Reader:
    """The device and the normalisation of networks that read images together."""

    device: str
    normalisation: tuple[torch.Tensor, torch.Tensor]


class PredictingStage(ChunkedStage[TgnRecipe, RowSpan], TgnStage):
    """Runs networks on the test images."""

    def chunks(self) -> list[Sequence[RowSpan]]:
        return predicted_spans(self)

    def predict(
        self, rows: Sequence[int], networks: Mapping[str, Network]
    ) -> tuple[Predictions, dict[str, torch.Tensor]]:
        """Run networks of one block, which read images alike, over rows of the test split; return also the logits."""
        first = next(iter(networks.values()))
        resize = SquareResize(first.size_px)
        models = {name: network.backbone.network for name, network in networks.items()}
        reader = Reader(self.device, first.normalisation)
        return predict(self, reader, rows, models, {PLAIN: lambda image: [resize(image)]})

    def load(self, step: str, kind: str) -> Network:
        network = load_network(self.run.file_of(step, kind))
        network.backbone.to(self.device)
        return network


class PredictArmStage(PredictingStage):
    """Runs an arm's classifier."""

    def make_chunk(self, chunk: Sequence[RowSpan]) -> list[Artefact]:
        (span,) = chunk
        return predicted_files(self, span, *self.predict(span.rows, self._networks))

    @cached_property
    def _networks(self) -> dict[str, Network]:
        return {self.step.arm: self.load(self.input("arm"), "network")}


class PredictSidesStage(PredictingStage):
    """Runs KMDN's networks, alone and distilled, each on the images of its side."""

    def make_chunk(self, chunk: Sequence[RowSpan]) -> list[Artefact]:
        (span,) = chunk
        labels = self.corpus.test.labels[span.start : span.end]
        columns: dict[str, np.ndarray] = {}
        for side, entries in self.manifest.sides.items():
            ids = np.array([entry.class_id for entry in entries])
            places = np.flatnonzero(np.isin(labels, ids))
            columns |= {f"{side}.{name}": np.full(len(labels), OTHER_SIDE) for name in self._networks[side]}
            if len(places):
                predictions, _ = self.predict((span.start + places).tolist(), self._networks[side])
                for name, predicted in predictions.predicted.items():
                    columns[f"{side}.{name}"][places] = ids[predicted]
        return [Table("networks", columns)]

    @cached_property
    def _networks(self) -> dict[str, dict[str, Network]]:
        """{side: {"alone" or "distilled": network}}."""
        found = {}
        for side in self.manifest.sides:
            found[side] = {"alone": self.load(self.input(side), "network")}
            for step in self.inputs("distilled"):
                found[side]["distilled"] = self.load(step.name, side)
        return found
