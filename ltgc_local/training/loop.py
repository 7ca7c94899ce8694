"""Train one arm: LoRA and head on mixed pairs (LTGC), or on originals alone (the control).

In a distributed run each process draws the same rows and takes its share of them, so the number of processes does not
change what is trained on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from ltgc_local.errors import BackendError
from ltgc_local.records import EpochMetrics
from ltgc_local.training.arm_data import ArmData
from ltgc_local.training.checkpoints import (
    load_optimizer_tensors,
    optimizer_tensors,
    random_states,
    read_checkpoint,
    set_random_states,
    write_checkpoint,
)
from ltgc_local.training.classifier import Classifier
from ltgc_local.training.lora import check_gradients
from ltgc_local.training.losses import soft_cross_entropy
from ltgc_local.training.optimization import (
    MovingAverage,
    Selection,
    build_optimizer,
    put_into,
    set_lr,
    trained_parameters,
)

Validate = Callable[[torch.nn.Module], dict[str, float | None]]
OnMetrics = Callable[[Mapping[str, float | int | None]], None]
CHECK_EVERY = 20  # steps after which losses are read: a GPU would have to stand still for each of them


@dataclass(frozen=True)
class Trained:
    """One record an epoch, and the epoch whose weights were kept."""

    history: list[EpochMetrics]
    epoch: int


class Training:
    """The training of one arm, which can be written to a checkpoint and go on from there between any two steps."""

    def __init__(
        self,
        data: ArmData,
        classifier: Classifier,
        normalisation: tuple[torch.Tensor, torch.Tensor],
        device: str,
        validate: Validate,
        checkpoint: Path | None = None,
        on_metrics: OnMetrics = lambda values: None,
    ) -> None:
        """Prepare the classifier, which ``run`` trains in place.

        Args:
            normalisation: mean and std, (1, 3, 1, 1), of images in [0, 1].
            validate: called with the classifier after each epoch.
            checkpoint: the file to go on from, where it is there, and to write to; None does neither.
            on_metrics: is given losses as they are read, and what each epoch's validation finds.
        """
        self._on_metrics = on_metrics
        self.settings, self._data, self._classifier, self._validate = data.settings, data, classifier, validate
        self._accelerator = Accelerator(cpu=device == "cpu")
        self._parameters = trained_parameters(classifier)
        self._optimizer = build_optimizer(self.settings, classifier, self._accelerator.device)
        self._model = self._accelerator.prepare(classifier)
        if self.settings.compile:  # not ``classifier``, which validation shows batches of other sizes
            self._model = torch.compile(self._model, mode=self.settings.compile, dynamic=False)
        self._normalisation = tuple(tensor.to(self._accelerator.device) for tensor in normalisation)
        self._total = self.settings.epochs * data.steps_per_epoch
        self._average = MovingAverage(self._parameters, self.settings.ema)
        self._selection = Selection(self.settings.select)
        self._history: list[EpochMetrics] = []
        self._losses: list[float] = []  # of this epoch
        self._unread: list[torch.Tensor] = []  # the latest of them, still on the device
        self._seconds = 0.0  # of this epoch, before this process took it up
        self._checkpoint = checkpoint
        self._log_priors: dict[bool, torch.Tensor | None] = {}
        self.step = self._restore() if checkpoint else 0

    def run(self, on_step: Callable[[int], None]) -> Trained:
        """Train to the end; ``on_step`` is called with the number of images after each step.

        Raises:
            BackendError: what trains is not what is meant to, or the loss is no number.
        """
        on_step(self.step * self.settings.batch_size)
        self._start = self._written = time.monotonic()
        with closing(self._data.gathered_batches(self.step, self._accelerator.device)) as batches:
            for epoch, batch, pixels in batches:
                images, targets = self._data.tensors(batch, pixels, *self._normalisation)
                lr = set_lr(self._optimizer, self.step, self.settings.warmup_steps, self._total)
                self._unread.append(self._train_step(epoch, images, targets))
                if self.step % CHECK_EVERY == 0:
                    self._read_losses()
                self.step += 1
                on_step(len(images))
                if self.step % self._data.steps_per_epoch == 0:
                    self._end_epoch(epoch, lr)
                if self._checkpoint and time.monotonic() - self._written >= 60 * self.settings.checkpoint_minutes:
                    self._write(self._checkpoint)
        put_into(self._parameters, self._selection.weights)
        return Trained(self._history, self._selection.epoch)

    def _train_step(self, epoch: int, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Take one step on this process's share of a batch and return its loss, on the device."""
        accelerator = self._accelerator
        is_real = self._data.is_real(epoch)
        if is_real not in self._log_priors:
            prior = self._data.log_prior(epoch)
            self._log_priors[is_real] = prior.to(accelerator.device) if prior is not None else None
        log_prior = self._log_priors[is_real]
        mine = slice(accelerator.process_index, None, accelerator.num_processes)
        parts = list(zip(*(t[mine].chunk(self.settings.accumulation_steps) for t in (images, targets)), strict=True))
        num = sum(len(part) for part, _ in parts)
        is_bf16 = self.settings.precision == "bf16"
        self._model.train()
        total = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        for number, (part, part_targets) in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else accelerator.no_sync(self._model):
                with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=is_bf16):
                    logits = self._model(part)
                loss = soft_cross_entropy(logits.float(), part_targets, log_prior) * (len(part) / num)
                accelerator.backward(loss)
            total += loss.detach()
        if self.step == 0:
            check_gradients(self._classifier, self.settings)
        if self._data.is_last_layer(epoch):
            self._forget_gradients("tower.")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average.update()
        return total

    def _read_losses(self) -> None:
        """Take the losses of the latest steps off the device.

        Raises:
            BackendError: one is no number. No epoch ends and no checkpoint is written with what came of it.
        """
        losses = torch.stack(self._unread).tolist() if self._unread else []
        self._unread = []
        for loss in losses:
            if not math.isfinite(loss):
                epoch, step = len(self._history), len(self._history) * self._data.steps_per_epoch + len(self._losses)
                raise BackendError(
                    f"train: the loss is {loss} in step {step} (epoch {epoch}); "
                    f"type --set train.lr={self.settings.lr / 10:g}, or --set train.warmup_steps=100"
                )
            self._losses.append(loss)
        if losses:
            lr = self._optimizer.param_groups[0]["lr"]
            self._on_metrics({"step": self.step, "loss": float(np.mean(losses)), "lr": lr})

    def _forget_gradients(self, prefix: str) -> None:
        """Keep the optimiser from these parameters (freezing them in mid-training would stall a distributed run)."""
        for name, parameter in self._parameters.items():
            if name.startswith(prefix):
                parameter.grad = None

    def _end_epoch(self, epoch: int, lr: float) -> None:
        self._read_losses()
        seconds = self._seconds + time.monotonic() - self._start
        rate = round(len(self._losses) * self.settings.batch_size / seconds, 1)
        self._classifier.eval()
        with self._average.in_place():
            validation = self._validate(self._classifier)
            self._selection.offer(epoch, validation, self._parameters)
        self._history.append(EpochMetrics(epoch, float(np.mean(self._losses)), lr, rate, validation))
        of_epoch = {"epoch": epoch, "loss": self._history[-1].loss, "lr": lr, "images_per_second": rate}
        self._on_metrics(of_epoch | {f"validation/{group}": value for group, value in validation.items()})
        self._losses, self._seconds, self._start = [], 0.0, time.monotonic()

    def _write(self, path: Path) -> None:
        self._read_losses()
        self._written = time.monotonic()
        if not self._accelerator.is_main_process:
            return
        groups: dict[str, Mapping[str, torch.Tensor]] = {
            "weights": self._parameters,
            "average": self._average.weights,
            "selected": self._selection.weights,
            "optimizer": optimizer_tensors(self._optimizer),
            "random": random_states(self._data.generator),
        }
        facts = {
            "step": self.step,
            "history": [asdict(epoch) for epoch in self._history],
            "losses": self._losses,
            "seconds": self._seconds + time.monotonic() - self._start,
            "selected": [self._selection.epoch, self._selection.score],
        }
        write_checkpoint(path, groups, facts)

    def _restore(self) -> int:
        """Take up the checkpoint, where there is one; return the number of steps that are done."""
        assert self._checkpoint is not None
        found = read_checkpoint(self._checkpoint)
        if found is None:
            return 0
        groups, facts = found
        device = self._accelerator.device
        put_into(self._parameters, groups["weights"])
        self._average.weights = {name: tensor.to(device) for name, tensor in groups.get("average", {}).items()}
        self._selection.weights = {name: tensor.to(device) for name, tensor in groups.get("selected", {}).items()}
        self._selection.epoch, self._selection.score = facts["selected"]
        load_optimizer_tensors(self._optimizer, groups.get("optimizer", {}))
        set_random_states(groups["random"], self._data.generator)
        self._history = [EpochMetrics(**epoch) for epoch in facts["history"]]
        self._losses, self._seconds = facts["losses"], facts["seconds"]
        return int(facts["step"])
