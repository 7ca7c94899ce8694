"""The training of a step: resumed from its checkpoint, with its progress shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ltgc_local.methods.context import StageContext
from ltgc_local.records import EpochMetrics
from ltgc_local.training.checkpoints import CHECKPOINT
from ltgc_local.training.trainer import Algorithm, Trainer


def train(
    context: StageContext,
    algorithm: Algorithm[Any, Any],
    checkpoint_minutes: float,
    on_epoch: Callable[[EpochMetrics], None] = lambda epoch: None,
) -> list[EpochMetrics]:
    """Train to the end; return the history.

    Args:
        on_epoch: called with each of its records.
    """

    def end_epoch(epoch: EpochMetrics) -> None:
        context.progress.note(" ".join(f"{name} {value:.3f}" for name, value in epoch.losses.items()))
        on_epoch(epoch)

    checkpoint = context.run.folder(context.step.name) / CHECKPOINT
    advance = context.progress.advance
    trainer = Trainer(
        algorithm,
        checkpoint,
        checkpoint_minutes,
        on_step=advance,
        on_epoch=end_epoch,
        on_metrics=context.metrics.write,
    )
    context.progress.expect(trainer.num_images)
    return trainer.run()
