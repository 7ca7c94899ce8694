"""Train in a step: resume from its checkpoint and show progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ltgc_local.methods.stage import Stage
from ltgc_local.records import EpochMetrics
from ltgc_local.runs.directory import CHECKPOINT
from ltgc_local.training.trainer import Algorithm, Trainer


def train(
    stage: Stage,
    algorithm: Algorithm[Any, Any],
    checkpoint_minutes: float,
    on_epoch: Callable[[EpochMetrics], None] = lambda epoch: None,
) -> list[EpochMetrics]:
    """Train to the end; return the history.

    Args:
        on_epoch: called with each of its records.
    """

    def end_epoch(epoch: EpochMetrics) -> None:
        stage.progress.note(" ".join(f"{name} {value:.3f}" for name, value in epoch.losses.items()))
        on_epoch(epoch)

    checkpoint = stage.run.folder(stage.step.name) / CHECKPOINT
    advance = stage.progress.advance
    trainer = Trainer(
        algorithm,
        checkpoint,
        checkpoint_minutes,
        on_step=advance,
        on_epoch=end_epoch,
        on_metrics=stage.metrics.write,
    )
    stage.progress.expect(trainer.num_images)
    return trainer.run()
