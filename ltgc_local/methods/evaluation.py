"""What every method does with its classifiers on validation and test images: predict in chunks, then measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ltgc_local.backends.protocols import ImageReader
from ltgc_local.datasets.base import Split
from ltgc_local.evaluation.predictions import Predictions, View, iterate_logits
from ltgc_local.evaluation.rivals import Sides, Tilted, measure_rivals
from ltgc_local.evaluation.tilt import log_counts
from ltgc_local.methods.stage import Stage
from ltgc_local.runs.arrays import read_arrays, read_table, read_tensors
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


def split_of(stage: Stage) -> Split:
    """Return the images that a step predicts: the test split, or ``val`` where its options say so."""
    return stage.corpus.val if stage.step.options.get("split") == "val" else stage.corpus.test


def predicted_spans(stage: Stage) -> list[Sequence[RowSpan]]:
    """Return the chunks of a step that predicts; none of validation images that are test images."""
    if stage.corpus.val_is_test and split_of(stage) is stage.corpus.val:
        return []
    return spans_of(len(split_of(stage)), stage.recipe.evaluate.shard_size)


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
    """Run classifiers over rows of the step's split, which are read once.

    Args:
        named: (classifier, view) and a batch's logits -> the names that predict from them, each with its logits.

    Returns:
        The predictions, for other class priors too under the step's arm; and that arm's plain logits (N, C) in float16,
        if ``evaluate.store_logits`` or the step asks for them.
    """
    settings, predictions, arm = stage.recipe.evaluate, Predictions(len(rows)), stage.step.arm
    keeps, log_n = settings.store_logits or stage.step.options.get("keeps_logits"), counts_of(stage)
    kept: list[torch.Tensor] = []
    found = iterate_logits(reader, split_of(stage), rows, models, views, settings.batch_size, stage.decode_threads)
    for places, logits in found:
        for key in logits:
            for name, values in named(key, logits):
                predictions.add(name, places, values)
                if name == arm:
                    predictions.add_tilted(name, places, values, log_n)
                    kept += [values.half()] if keeps else []
        stage.progress.advance(places.stop - places.start)
    return predictions, {arm: torch.cat(kept)} if kept else {}


def counts_of(stage: Stage) -> torch.Tensor:
    """Return log n_c (C,) of the training images."""
    return log_counts(stage.corpus.class_counts())


def predicted_files(
    stage: Stage, span: RowSpan, predictions: Predictions, logits: Mapping[str, torch.Tensor]
) -> list[Artefact]:
    """Return the files of a chunk of an arm's predictions; and of its logits if there are any."""
    split, rows = split_of(stage), slice(span.start, span.end)
    table = Table("predictions", predictions.columns(split.keys[rows], split.labels[rows]))
    tilted = {name: torch.from_numpy(classes) for name, classes in predictions.tilted.items()}
    return [table, Tensors("tilted", tilted), *([Tensors("logits", logits)] if logits else [])]


def read_predictions(
    stage: Stage, which: Literal["predictions", "validations"] = "predictions"
) -> tuple[Predictions, list[Artefact]]:
    """Read what all arms predicted; return it, and the files that hold it together."""
    columns: dict[str, np.ndarray] = {}
    logits: dict[str, torch.Tensor] = {}
    tilted: dict[str, np.ndarray] = {}
    for step in stage.inputs(which):
        parts = [read_table(path) for path in stage.run.files(step.name, "predictions")]
        if not parts:
            continue
        columns |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        tilted[step.arm] = np.concatenate(
            [read_arrays(path)[step.arm] for path in stage.run.files(step.name, "tilted")]
        )
        paths = stage.run.files(step.name, "logits") if stage.recipe.evaluate.store_logits else []
        if paths:
            logits[step.arm] = torch.cat([read_tensors(path)[0][step.arm] for path in paths])
    files: list[Artefact] = [Table("predictions", columns), *([Tensors("logits", logits)] if logits else [])]
    predictions = Predictions.of_columns(columns) if columns else Predictions(0)
    predictions.tilted = tilted
    return predictions, files


def compare_with_rivals(stage: Stage, predictions: Predictions, treated: str, sides: Sides | None) -> dict[str, Any]:
    """Return ``evaluate/rivals.json``: the curves of all arms, and the method against each of its rivals.

    Args:
        predictions: of all arms for the test images.
        treated: the method's own arm.
        sides: None if the classes are not rare and frequent ones: then there are no curves.
    """
    if sides is None:
        return {}
    corpus = stage.corpus
    validations, _ = read_predictions(stage, "validations")
    validation = Tilted(validations.tilted, corpus.val.labels) if validations.tilted else None
    test = Tilted(predictions.tilted, corpus.test.labels)
    return measure_rivals(validation, test, treated, sides, corpus.class_counts(), stage.resampling)
