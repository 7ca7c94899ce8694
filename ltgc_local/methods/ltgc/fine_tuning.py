"""Fine-tune one arm: LoRA and head on mixed pairs (LTGC), or on originals alone (the control).

In a distributed run every process samples the same rows, and gathers and augments its share alone. Random numbers are
drawn for the whole batch, so the number of processes does not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from ltgc_local.methods.ltgc.arm_data import ArmData, Batch, Pixels
from ltgc_local.recipe.learning import Train
from ltgc_local.training.checkpoints import Groups
from ltgc_local.training.classifier import Classifier
from ltgc_local.training.lora import check_gradients
from ltgc_local.training.optimization import (
    MovingAverage,
    Selection,
    load_weights_,
    trained_parameters,
    warmup_cosine,
)
from ltgc_local.training.trainer import Algorithm, Epoch

Validate = Callable[[torch.nn.Module], dict[str, float | None]]


@dataclass(frozen=True)
class Teaching:
    """What a student learns from.

    Attributes:
        teacher: images (B, 3, H, W) -> logits (B, C).
        label_weight: how much the true labels count; the teacher counts for the rest.
        temperature: by which the logits of both are divided.
    """

    teacher: torch.nn.Module
    label_weight: float
    temperature: float

    def teach(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the teacher says, (B, C)."""
        with torch.no_grad():
            taught: torch.Tensor = self.teacher(images).float()
        return taught

    def mixed(self, loss: torch.Tensor, logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        """Return the loss that also learns from the teacher.

            w * loss + (1 - w) * T^2 * KL(softmax(taught / T) || softmax(logits / T))

        Args:
            loss: by the labels.
            logits: the model's, (B, C).
            taught: the teacher's, (B, C).
        """
        taught = (taught / self.temperature).log_softmax(-1)
        said = (logits / self.temperature).log_softmax(-1)
        distance = F.kl_div(said, taught, reduction="batchmean", log_target=True)
        return self.label_weight * loss + (1 - self.label_weight) * self.temperature**2 * distance


@final
class FineTuning(Algorithm[tuple[int, Batch], tuple[int, Batch, Pixels]]):
    """The training of one arm's classifier, in place."""

    block = "train"

    def __init__(
        self,
        data: ArmData,
        classifier: Classifier,
        normalisation: tuple[torch.Tensor, torch.Tensor],
        device: str,
        validate: Validate,
        teaching: Teaching | None = None,
    ) -> None:
        """Prepare the classifier; ``normalisation`` is mean and std, (1, 3, 1, 1), of images in [0, 1]."""
        self._teaching = teaching
        settings = data.settings
        self._data, self._settings, self.classifier, self._validate = data, settings, classifier, validate
        self.accelerator = Accelerator(cpu=device == "cpu")
        self._mine = slice(self.accelerator.process_index, None, self.accelerator.num_processes)  # of each batch
        self.remedy = f"--set train.lr={settings.lr / 10:g}, or --set train.warmup_steps=100"
        self.batch_size = settings.batch_size
        self.epochs = [Epoch(data.steps_per_epoch)] * settings.epochs
        self.optimizers = {"classifier": build_optimizer(settings, classifier, self.accelerator.device)}
        self._parameters = trained_parameters(classifier)
        self._model = self.accelerator.prepare(classifier)
        if settings.compile:  # not ``classifier``, because validation uses other batch sizes
            self._model = torch.compile(self._model, mode=settings.compile, dynamic=False)
        self._normalisation = tuple(tensor.to(self.accelerator.device) for tensor in normalisation)
        self._average = MovingAverage(self._parameters, settings.ema)
        self.selection = Selection(self.block, settings.select)
        self._log_priors: dict[bool, torch.Tensor] = {}

    def lr_factor(self, step: int) -> float:
        return warmup_cosine(step, self._settings.warmup_steps, len(self.epochs) * self._data.steps_per_epoch)

    def draws(self) -> Iterator[tuple[int, Batch]]:
        return self._data.batches()

    def gather(self, draw: tuple[int, Batch]) -> tuple[int, Batch, Pixels]:
        return *draw, self._data.gather(draw[1], self._mine, pin=self.accelerator.device.type == "cuda")

    def step(self, step: int, batch: tuple[int, Batch, Pixels]) -> Mapping[str, torch.Tensor]:
        accelerator, settings = self.accelerator, self._settings
        epoch, sampled, pixels = batch
        mean, std = self._normalisation
        images, targets = self._data.tensors(sampled, pixels, mean, std, self._mine)
        log_priors = self._log_prior(epoch).expand(len(images), -1)  # (B, C)
        parts = list(zip(*(t.chunk(settings.accumulation_steps) for t in (images, targets, log_priors)), strict=True))
        num = len(images)
        self._model.train()
        total = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        for number, (part, part_targets, log_prior) in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else accelerator.no_sync(self._model):
                with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                    logits = self._model(part).float()
                    taught = self._teaching.teach(part) if self._teaching is not None else None
                loss = F.cross_entropy(logits + log_prior, part_targets)
                if self._teaching is not None and taught is not None:
                    loss = self._teaching.mixed(loss, logits, taught)
                loss = loss * (len(part) / num)
                accelerator.backward(loss)
            total += loss.detach()
        if step == 0:
            check_gradients(self.classifier, settings)
        if self._data.is_last_layer(epoch):
            # Freezing the tower in the middle of a training would stall a distributed run.
            for name, parameter in self._parameters.items():
                if name.startswith("tower."):
                    parameter.grad = None
        self.optimizers["classifier"].step()
        self.optimizers["classifier"].zero_grad(set_to_none=True)
        self._average.update()
        return {"loss": total}

    def _log_prior(self, epoch: int) -> torch.Tensor:
        is_real = self._data.is_real(epoch)
        if is_real not in self._log_priors:
            log_prior = self._data.log_prior(epoch)
            mine = log_prior[self._mine] if log_prior.dim() == 2 else log_prior
            self._log_priors[is_real] = mine.to(self.accelerator.device)
        return self._log_priors[is_real]

    def validate(self, epoch: int) -> dict[str, float | None]:
        self.classifier.eval()
        with self._average.in_place():
            validation = self._validate(self.classifier)
            self.selection.offer(epoch, validation, self._parameters)
        if epoch == len(self.epochs) - 1:
            load_weights_(self._parameters, self.selection.weights)
        return validation

    def state(self) -> Groups:
        return {
            "weights": self._parameters,
            "average": self._average.weights,
            "augmentation": {"state": self._data.generator.get_state()},
            **self.selection.state(),
        }

    def load_state(self, groups: Groups) -> None:
        load_weights_(self._parameters, groups["weights"])
        self._average.weights = groups.get("average", {})
        self._data.generator.set_state(groups["augmentation"]["state"].cpu())
        self.selection.load_state(groups)


def build_optimizer(settings: Train, classifier: Classifier, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimiser of the adapters and of the head, which may have its own learning rate.

    On a GPU one kernel updates the hundreds of small matrices.
    """
    trained = trained_parameters(classifier).items()
    groups: list[dict[str, Any]] = [
        {"lr": settings.lr, "params": [p for name, p in trained if not name.startswith("head.")]},
        {"lr": settings.head_lr or settings.lr, "params": [p for name, p in trained if name.startswith("head.")]},
    ]
    groups = [group for group in groups if group["params"]]
    shared: dict[str, Any] = {"weight_decay": settings.weight_decay, "fused": True if device.type == "cuda" else None}
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, settings.lr, **shared)
    return torch.optim.SGD(groups, settings.lr, settings.momentum, **shared)
