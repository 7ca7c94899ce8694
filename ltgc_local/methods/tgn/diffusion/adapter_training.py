"""Train the adapter of "TGN-style, diffusion": steps, a line of history now and then, checkpoints to go on from.

All that is random in a step comes from the seed and the step's number, on the CPU: a training that goes on from a
checkpoint, or on several processes, draws what it would have drawn.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from ltgc_local.backends.protocols import AdapterLearner
from ltgc_local.errors import BackendError
from ltgc_local.methods.tgn.real_images import row_batches
from ltgc_local.methods.tgn.tail_features import FeatureSpace
from ltgc_local.recipe.schema import Diffusion
from ltgc_local.records import Record
from ltgc_local.seeding import item_seed
from ltgc_local.training.checkpoints import (
    load_optimizer_tensors,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from ltgc_local.training.optimization import lr_factor, put_into
from ltgc_local.training.together import average_gradients


@dataclass(frozen=True)
class AdapterMetrics(Record):
    """The mean loss since the last line, and the rate of the last step."""

    step: int
    loss: float
    lr: float
    images_per_second: float


@dataclass(frozen=True)
class TailImages:
    """The tail's training images as the learner sees them.

    Attributes:
        latents: (N, 4, h, w), encoded once.
        labels: (N,), the tail's indices, which are the prompts' places.
        features: (N, F), scaled, with the space that they are of; None without conditioning.
    """

    latents: torch.Tensor
    labels: np.ndarray
    features: torch.Tensor | None
    space: FeatureSpace | None


class AdapterTraining:
    """The training of one adapter; between any two steps it can be written to a checkpoint and go on from there."""

    def __init__(
        self,
        settings: Diffusion,
        learner: AdapterLearner,
        data: TailImages,
        seed: int,
        checkpoint: Path | None = None,
    ) -> None:
        """Prepare a training.

        Args:
            seed: of the rows, noise, time steps and dropped prompts of every step.
            checkpoint: the file to go on from, where it is there, and to write to; None does neither.

        Raises:
            BackendError: the batch cannot be shared evenly among the processes.
        """
        self.accelerator = Accelerator(cpu=learner.device.type == "cpu")
        processes = self.accelerator.num_processes
        if settings.batch_size % processes:
            raise BackendError(
                f"diffusion: {settings.batch_size} images a step cannot be shared evenly by {processes} processes; "
                f"type --set diffusion.batch_size={processes * -(-settings.batch_size // processes)}"
            )
        self._settings, self._learner, self._data, self._seed = settings, learner, data, seed
        self._parameters = dict(learner.parameters)
        self._optimizer = torch.optim.AdamW(
            list(self._parameters.values()), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self._batches = row_batches(data.labels, settings.batch_size, settings.sampler, seed)
        self._sum = torch.zeros((), device=learner.device)  # of the losses since the last line
        self._checkpoint = checkpoint
        self.history: list[AdapterMetrics] = []
        self._seconds = 0.0  # since the last line, before this process took it up
        self.step = self._restore(checkpoint) if checkpoint else 0

    def run(self, on_step: Callable[[int], None], on_line: Callable[[AdapterMetrics], None]) -> None:
        """Train to the end.

        Args:
            on_step: called with the number of images after each step.
            on_line: called with each line of the history.

        Raises:
            BackendError: what trains is not what is meant to, or the loss is no number.
        """
        settings = self._settings
        on_step(self.step * settings.batch_size)
        self._start = self._written = time.monotonic()
        is_first = True
        for rows in itertools.islice(self._batches, self.step, settings.steps):
            lr = self._set_lr()
            self._optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self._learner.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                loss = self._loss(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            if is_first:
                self._learner.check_gradients()
                is_first = False
            average_gradients(self._parameters.values())
            self._optimizer.step()
            self._sum += loss.detach()
            self.step += 1
            on_step(len(rows))
            if self.step % settings.log_every == 0 or self.step == settings.steps:
                on_line(self._end_line(lr))
            if self._checkpoint and time.monotonic() - self._written >= 60 * settings.checkpoint_minutes:
                self._write(self._checkpoint)

    def _loss(self, rows: np.ndarray) -> torch.Tensor:
        """Return the loss of this process's share of a batch."""
        settings, data = self._settings, self._data
        rng = torch.Generator().manual_seed(item_seed(self._seed, "step", self.step))
        latents, labels = data.latents[torch.from_numpy(rows)], torch.from_numpy(data.labels[rows])
        noise = torch.randn(latents.shape, generator=rng)
        timesteps = torch.randint(self._learner.num_timesteps, (len(rows),), generator=rng)
        is_empty = torch.rand(len(rows), generator=rng) < settings.prompt_dropout
        prompts = torch.where(is_empty, -1, labels)
        features = None
        if data.features is not None and data.space is not None:
            r = settings.r_train * torch.rand(len(rows), 1, generator=rng)
            scaled = data.features[torch.from_numpy(rows)]
            features = data.space.mix(scaled, labels, r, torch.randn(scaled.shape, generator=rng))
            is_dropped = torch.rand(len(rows), generator=rng) < settings.feature_dropout
            features = torch.where(is_dropped[:, None], torch.nan, features)[self._share]
        mine = self._share
        return self._learner.loss(latents[mine], prompts[mine], features, noise[mine], timesteps[mine])

    @property
    def _share(self) -> slice:
        return slice(self.accelerator.process_index, None, self.accelerator.num_processes)

    def _set_lr(self) -> float:
        lr = self._settings.lr * lr_factor(self.step, self._settings.warmup_steps, self._settings.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _end_line(self, lr: float) -> AdapterMetrics:
        seconds = self._seconds + time.monotonic() - self._start
        done = self.step - (self.history[-1].step if self.history else 0)
        loss = float(self.accelerator.reduce(self._sum, "mean")) / done
        if not math.isfinite(loss):
            raise BackendError(
                f"diffusion: the loss is no number after {self.step} steps; type "
                f"--set diffusion.lr={self._settings.lr / 2:g}, or --set models.dtype=bfloat16"
            )
        rate = round(done * self._settings.batch_size / seconds, 1)
        self.history.append(AdapterMetrics(self.step, round(loss, 6), lr, rate))
        self._sum = torch.zeros_like(self._sum)
        self._seconds, self._start = 0.0, time.monotonic()
        return self.history[-1]

    def _write(self, path: Path) -> None:
        self._written = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        groups: dict[str, Mapping[str, torch.Tensor]] = {
            "weights": self._parameters,
            "optimizer": optimizer_tensors(self._optimizer),
            "sum": {"loss": self._sum},
        }
        facts = {
            "step": self.step,
            "history": [asdict(line) for line in self.history],
            "seconds": self._seconds + time.monotonic() - self._start,
        }
        write_checkpoint(path, groups, facts)

    def _restore(self, path: Path) -> int:
        """Take up the checkpoint, where there is one; return the number of steps that are done."""
        found = read_checkpoint(path)
        if found is None:
            return 0
        groups, facts = found
        put_into(self._parameters, groups["weights"])
        load_optimizer_tensors(self._optimizer, groups["optimizer"])
        self._sum = groups["sum"]["loss"].to(self._learner.device)
        self.history = [AdapterMetrics(**line) for line in facts["history"]]
        self._seconds = facts["seconds"]
        return int(facts["step"])
