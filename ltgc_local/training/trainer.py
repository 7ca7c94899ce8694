"""The loop of every training: learning rate, checkpoints, reading of losses, history, live metrics.

An ``Algorithm`` says what a step does and what must be kept. Nothing here knows which method trains.

Losses stay on the device until every 20th step and the end of an epoch, because reading one makes a GPU stand still.
Checkpoints are written only then, so none holds what followed from a loss that is not finite. In a distributed run
losses are means over the processes, which all see the same ones, and the main process writes.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import LambdaLR

from ltgc_local import stopping
from ltgc_local.errors import BackendError
from ltgc_local.prefetch import prefetch
from ltgc_local.records import EpochMetrics
from ltgc_local.training.checkpoints import (
    Groups,
    load_optimizer_tensors,
    optimizer_tensors,
    random_states,
    read_checkpoint,
    set_random_states,
    write_checkpoint,
)

READ_EVERY = 20  # steps
AHEAD = 2  # batches gathered early: one that waits, and one in the making

Draw = TypeVar("Draw")
Batch = TypeVar("Batch")
Metrics = Mapping[str, float | int]


@dataclass(frozen=True)
class Epoch:
    """The number of steps of an epoch, and which network learns, where there are several."""

    num_steps: int
    network: str = ""

    @classmethod
    def split(cls, steps: int, every: int) -> list[Self]:
        """Cut a training that is given in steps into epochs of ``every`` steps; the last may be shorter."""
        return [cls(min(every, steps - first)) for first in range(0, steps, every)]


class Algorithm(Protocol[Draw, Batch]):
    """What is trained and how: everything that differs between trainings.

    Attributes:
        accelerator: the device, the processes, and this one's place among them.
        block: of the recipe, for messages.
        remedy: what to type when a loss is not finite.
        batch_size: images per step, in all processes together.
        epochs: each ends with a validation and a record of the history.
        optimizers: by name; ``step`` uses them, the Trainer sets their rates and keeps their states.
    """

    accelerator: Accelerator
    block: str
    remedy: str
    batch_size: int
    epochs: Sequence[Epoch]
    optimizers: Mapping[str, torch.optim.Optimizer]

    def lr_factor(self, step: int) -> float:
        """Return the factor of the optimisers' learning rates in a step."""

    def draws(self) -> Iterator[Draw]:
        """Yield what each step works on, from step 0 on and the same each time; there may be more than needed."""

    def gather(self, draw: Draw) -> Batch:
        """Copy a step's images out of memory or files. Called early, in a thread, so it must change nothing."""

    def step(self, step: int, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Train on this process's share of a batch; return the losses by name, on the device."""

    def validate(self, epoch: int) -> dict[str, float | None]:
        """End an epoch, selecting weights if asked for; return what was measured.

        After the last epoch the networks have the weights that are kept.
        """

    def state(self) -> Groups:
        """Return all that steps and validations change, except the optimisers and torch's own random numbers."""

    def load_state(self, groups: Groups) -> None:
        """Restore what ``state`` returned. A group without tensors is missing; the tensors are on the device."""


class Trainer:
    """One training. It can be killed between any two steps, and resumes from its last checkpoint exactly."""

    def __init__(
        self,
        algorithm: Algorithm[Draw, Batch],
        checkpoint: Path | None = None,
        checkpoint_minutes: float = 0.0,
        *,
        on_step: Callable[[int], None] = lambda images: None,
        on_epoch: Callable[[EpochMetrics], None] = lambda epoch: None,
        on_metrics: Callable[[Metrics], None] = lambda metrics: None,
    ) -> None:
        """Prepare a training, resuming from the checkpoint where there is one.

        Args:
            checkpoint: the file to resume from, if it exists, and to write to; None does neither.
            checkpoint_minutes: least time between checkpoints; 0 reads losses and writes one in each step.
            on_step: called with the number of images after each step, and first with those of earlier processes.
            on_epoch: called with each new record of the history.
            on_metrics: called in the main process whenever losses were read, and after each validation.

        Raises:
            ArtefactError: the checkpoint is damaged.
        """
        self._algorithm, self._checkpoint, self._minutes = algorithm, checkpoint, checkpoint_minutes
        self._on_step, self._on_epoch, self._on_metrics = on_step, on_epoch, on_metrics
        self._ends = list(itertools.accumulate(epoch.num_steps for epoch in algorithm.epochs))
        self.step = 0
        self.history: list[EpochMetrics] = []
        self._losses: dict[str, list[float]] = {}  # of this epoch
        self._unread: list[Mapping[str, torch.Tensor]] = []  # the latest of them, still on the device
        if checkpoint is not None:
            self._restore(checkpoint)
        self._schedules = []
        for optimizer in algorithm.optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]  # LambdaLR needs it unless an optimiser is at its first step
            self._schedules.append(LambdaLR(optimizer, algorithm.lr_factor, self.step - 1))

    @property
    def num_images(self) -> int:
        """The number of images trained on from the first step to the last."""
        return self._ends[-1] * self._algorithm.batch_size

    def run(self) -> list[EpochMetrics]:
        """Train to the end; return the history.

        Raises:
            BackendError: a loss is not finite.
            Stopped: the process was asked to stop; a checkpoint was written.
        """
        with stopping.polling():
            return self._run()

    def _run(self) -> list[EpochMetrics]:
        algorithm = self._algorithm
        self._on_step(self.step * algorithm.batch_size)
        self._written = self._read = time.monotonic()
        read_every = READ_EVERY if self._minutes or self._checkpoint is None else 1
        draws = itertools.islice(algorithm.draws(), self.step, self._ends[-1])
        with closing(prefetch(algorithm.gather, draws, workers=AHEAD, ahead=AHEAD)) as batches:
            for batch in batches:
                self._unread.append(algorithm.step(self.step, batch))
                self.step += 1
                self._on_step(algorithm.batch_size)
                is_end = self.step == self._ends[len(self.history)]
                is_alone = algorithm.accelerator.num_processes == 1  # several stop at the same step: where they read
                if is_end or self.step == 1 or self.step % read_every == 0 or (is_alone and stopping.is_asked()):
                    must_stop = self._read_losses()
                    if is_end:
                        self._end_epoch()
                    if must_stop or time.monotonic() - self._written >= 60 * self._minutes:
                        self._write()
                    if must_stop:
                        raise stopping.Stopped
                for schedule in self._schedules:
                    schedule.step()
        return self.history

    @property
    def _lr(self) -> float:
        return float(self._schedules[0].get_last_lr()[0])

    def _read_losses(self) -> bool:
        """Take the losses of the latest steps off the device; return whether a process was asked to stop.

        Raises:
            BackendError: one is not finite. No epoch ends and no checkpoint is written after it.
        """
        algorithm, epoch = self._algorithm, len(self.history)
        on_device = [loss.double() for losses in self._unread for loss in losses.values()]
        is_asked = torch.tensor(float(stopping.is_asked()), dtype=torch.float64, device=algorithm.accelerator.device)
        *read, asked = algorithm.accelerator.reduce(torch.stack([*on_device, is_asked]), "mean").tolist()
        values = iter(read)
        latest: dict[str, list[float]] = {}
        for step, losses in enumerate(self._unread, start=self.step - len(self._unread)):
            for name, value in zip(losses, values, strict=False):
                if not math.isfinite(value):
                    raise BackendError(
                        f"{algorithm.block}: {name} is {value} in step {step} (epoch {epoch}); type {algorithm.remedy}"
                    )
                latest.setdefault(name, []).append(value)
                self._losses.setdefault(name, []).append(value)
        rate = round(len(self._unread) * algorithm.batch_size / (time.monotonic() - self._read), 1)
        self._unread, self._read = [], time.monotonic()
        self._tell(_means(latest) | {"lr": self._lr, "images_per_second": rate})
        return bool(asked)

    def _end_epoch(self) -> None:
        number, epoch = len(self.history), self._algorithm.epochs[len(self.history)]
        validation = self._algorithm.validate(number)
        metrics = EpochMetrics(number, epoch.network, self.step, _means(self._losses), self._lr, validation)
        self._tell({f"validation/{name}": value for name, value in validation.items() if value is not None})
        self.history.append(metrics)
        self._on_epoch(metrics)
        self._losses, self._read = {}, time.monotonic()

    def _tell(self, metrics: Metrics) -> None:
        if metrics and self._algorithm.accelerator.is_main_process:
            self._on_metrics({"step": self.step, "epoch": len(self.history), **metrics})

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._checkpoint is None or not self._algorithm.accelerator.is_main_process:
            return
        groups = {
            **self._algorithm.state(),
            **{f"optimizer {name}": optimizer_tensors(each) for name, each in self._algorithm.optimizers.items()},
            "losses": {name: torch.tensor(values, dtype=torch.float64) for name, values in self._losses.items()},
            "random": random_states(),
        }
        history = [asdict(epoch) for epoch in self.history]
        facts = {"step": self.step, "history": history, "losses": list(self._losses)}  # tensors are sorted in a file
        write_checkpoint(self._checkpoint, groups, facts)

    def _restore(self, path: Path) -> None:
        found = read_checkpoint(path)
        if found is None:
            return
        groups, facts = found
        device = self._algorithm.accelerator.device
        for name, optimizer in self._algorithm.optimizers.items():
            load_optimizer_tensors(optimizer, groups.pop(f"optimizer {name}", {}))
        set_random_states(groups.pop("random"))
        losses = groups.pop("losses", {})
        self._losses = {name: losses[name].tolist() for name in facts.get("losses", losses)}
        self._algorithm.load_state({g: {n: t.to(device) for n, t in tensors.items()} for g, tensors in groups.items()})
        self.history = [EpochMetrics(**epoch) for epoch in facts["history"]]
        self.step = facts["step"]


def _means(losses: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in losses.items()}
