"""What the evaluation of every method does with its classifiers on a split's images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch

from ltgc_local.backends.protocols import ImageReader
from ltgc_local.evaluation.predictions import PLAIN, Images, Predictions, View, iterate_logits
from ltgc_local.methods.stage import Stage
from ltgc_local.runs.files import Tensors

Logits = Mapping[tuple[str, str], torch.Tensor]  # (classifier, view) -> (B, C)


def by_classifier(key: tuple[str, str], logits: Logits) -> Iterable[tuple[str, torch.Tensor]]:
    """Predict under a classifier's own name, whatever the view."""
    return [(key[0], logits[key])]


def predict(
    stage: Stage,
    reader: ImageReader,
    split: Images,
    models: Mapping[str, torch.nn.Module],
    views: Mapping[str, View],
    named: Callable[[tuple[str, str], Logits], Iterable[tuple[str, torch.Tensor]]] = by_classifier,
) -> tuple[Predictions, list[Tensors]]:
    """Run classifiers over a split, which is read once.

    Args:
        named: (classifier, view) and a batch's logits -> the names that predict from them, each with its logits.

    Returns:
        The predictions, and the file of the plain views' logits (N, C) in float16 where ``evaluate.store_logits`` asks.
    """
    settings, predictions = stage.recipe.evaluate, Predictions(len(split))
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in models}
    for rows, logits in iterate_logits(reader, split, models, views, settings.batch_size, stage.decode_threads):
        for key in logits:
            for name, values in named(key, logits):
                predictions.add(name, rows, values)
        if settings.store_logits:
            for name, batches in kept.items():
                batches.append(logits[name, PLAIN].half())
        stage.progress.advance(len(rows))
    if not settings.store_logits:
        return predictions, []
    return predictions, [Tensors("logits", {name: torch.cat(batches) for name, batches in kept.items()})]
