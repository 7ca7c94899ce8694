"""What the evaluation of every method does with its classifiers on the test images: predict in chunks, then measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ltgc_local.backends.protocols import ImageReader
from ltgc_local.evaluation.predictions import PLAIN, Predictions, View, iterate_logits
from ltgc_local.methods.stage import Stage
from ltgc_local.runs.arrays import read_table, read_tensors
from ltgc_local.runs.files import Artefact, Table, Tensors

Logits = Mapping[tuple[str, str], torch.Tensor]  # (classifier, view) -> (B, C)


@dataclass(frozen=True)
class RowSpan:
    """Rows of a split that stand together, from ``start`` to before ``end``."""

    start: int
    end: int

    @property
    def num_items(self) -> int:
        return self.end - self.start

    @property
    def rows(self) -> range:
        return range(self.start, self.end)


def spans_of(num_rows: int, size: int) -> list[Sequence[RowSpan]]:
    """Return the rows of a split in chunks of one span."""
    return [[RowSpan(start, min(start + size, num_rows))] for start in range(0, num_rows, size)]


def by_classifier(key: tuple[str, str], logits: Logits) -> Iterable[tuple[str, torch.Tensor]]:
    """Predict under a classifier's own name, whatever the view."""
    return [(key[0], logits[key])]


def predict(
    stage: Stage,
    reader: ImageReader,
    rows: Sequence[int],
    models: Mapping[str, torch.nn.Module],
    views: Mapping[str, View],
    named: Callable[[tuple[str, str], Logits], Iterable[tuple[str, torch.Tensor]]] = by_classifier,
) -> tuple[Predictions, dict[str, torch.Tensor]]:
    """Run classifiers over rows of the test split, which are read once.

    Args:
        named: (classifier, view) and a batch's logits -> the names that predict from them, each with its logits.

    Returns:
        The predictions, and the plain views' logits (N, C) by classifier in float16, if ``evaluate.store_logits``.
    """
    settings, predictions, test = stage.recipe.evaluate, Predictions(len(rows)), stage.corpus.test
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in models} if settings.store_logits else {}
    found = iterate_logits(reader, test, rows, models, views, settings.batch_size, stage.decode_threads)
    for places, logits in found:
        for key in logits:
            for name, values in named(key, logits):
                predictions.add(name, places, values)
        for name, batches in kept.items():
            batches.append(logits[name, PLAIN].half())
        stage.progress.advance(places.stop - places.start)
    return predictions, {name: torch.cat(batches) for name, batches in kept.items()}


def predicted_files(
    stage: Stage, span: RowSpan, predictions: Predictions, logits: dict[str, torch.Tensor]
) -> list[Artefact]:
    """Return the files of a chunk of an arm's predictions; and of its logits if there are any."""
    test, rows, arm = stage.corpus.test, slice(span.start, span.end), stage.step.arm
    table = Table("predictions", predictions.columns(test.keys[rows], test.labels[rows]))
    return [table, *([Tensors("logits", {arm: logits[arm]})] if logits else [])]


def read_predictions(stage: Stage) -> tuple[Predictions, list[Artefact]]:
    """Read what all arms predicted; return it, and the files that hold it together."""
    columns: dict[str, np.ndarray] = {}
    logits: dict[str, torch.Tensor] = {}
    for step in stage.inputs("predictions"):
        parts = [read_table(path) for path in stage.run.files(step.name, "predictions")]
        columns |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if paths := stage.run.files(step.name, "logits"):
            logits[step.arm] = torch.cat([read_tensors(path)[0][step.arm] for path in paths])
    files: list[Artefact] = [Table("predictions", columns), *([Tensors("logits", logits)] if logits else [])]
    return Predictions.of_columns(columns), files
