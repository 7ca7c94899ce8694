"""Train one arm: LoRA and head on mixed pairs (LTGC), or on originals alone (the control).

One epoch is len(D_o) pairs, so every arm takes the same number of steps. In a distributed run each process draws the
same rows and takes its share of them, so the number of processes does not change what is trained on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from ltgc_local.recipe import Recipe
from ltgc_local.records import Record
from ltgc_local.training.balance_mix import BalancedSampler, effective_prior, mix, shuffled
from ltgc_local.training.classifier import Classifier, soft_cross_entropy
from ltgc_local.training.lora import check_gradients
from ltgc_local.training.pixels import augment

SMALLEST_PRIOR = 1e-8  # of a class without images; 0 would make its loss 0 * -inf


@dataclass(frozen=True)
class ImageSet:
    """Decoded images (N, 3, H, W) uint8 with labels (N,) int64."""

    pixels: torch.Tensor
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class EpochMetrics(Record):
    """One epoch of training; ``validation`` is percent by group."""

    epoch: int
    loss: float
    lr: float
    images_per_second: float
    validation: dict[str, float | None]


@dataclass(frozen=True)
class Batch:
    """Rows of D_o and, for mixed pairs, rows of D_g with the share ``lam`` of the original."""

    original: np.ndarray
    generated: np.ndarray | None = None
    lam: np.ndarray | None = None


class Trainer:
    """The data, the sampling and the loss of one arm."""

    def __init__(
        self, recipe: Recipe, mixing: str, original: ImageSet, generated: ImageSet, num_classes: int, seed: int
    ) -> None:
        self.settings = recipe.train
        self.num_classes = num_classes  # of the head: a class may be without an original
        self.mixing = mixing if len(generated) else "none"
        self.original = original
        self.generated = generated
        if self.mixing == "union":
            self.original = ImageSet(
                torch.cat([original.pixels, generated.pixels]), np.concatenate([original.labels, generated.labels])
            )
        self.num_real = len(original)
        self.steps_per_epoch = math.ceil(len(original) / self.settings.batch_size)
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """Yield (epoch, batch) for all epochs; the last ``real_epochs`` are without generated images."""
        settings, rng, real = self.settings, self._rng, self.num_real
        balanced = BalancedSampler(self.original.labels, rng)
        balanced_real = BalancedSampler(self.original.labels[:real], rng)
        every, every_real = shuffled(len(self.original), rng), shuffled(real, rng)
        generated = shuffled(len(self.generated), rng)
        for epoch in range(settings.epochs):
            only_real = self.is_real(epoch)
            for _ in range(self.steps_per_epoch):
                size = settings.batch_size
                if self.mixing == "balance_mix" and not only_real:
                    rows = np.array([next(generated) for _ in range(size)])
                    lam = rng.beta(settings.mix_alpha, settings.mix_alpha, size)
                    yield epoch, Batch(balanced.take(size), rows, lam)
                elif settings.sampler == "balanced":
                    yield epoch, Batch((balanced_real if only_real else balanced).take(size))
                else:
                    order = every_real if only_real else every
                    yield epoch, Batch(np.array([next(order) for _ in range(size)]))

    def is_real(self, epoch: int) -> bool:
        """Return whether an epoch is one of the last ``real_epochs``, which train on originals only."""
        return epoch >= self.settings.epochs - self.settings.real_epochs

    def log_prior(self, epoch: int = 0) -> torch.Tensor | None:
        """Return the scaled log of the label marginal of an epoch's batches, or None for plain cross-entropy."""
        if self.settings.loss == "cross_entropy":
            return None
        labels = self.original.labels[: self.num_real] if self.is_real(epoch) else self.original.labels
        if self.mixing == "balance_mix" and not self.is_real(epoch):
            prior = effective_prior(np.bincount(self.generated.labels, minlength=self.num_classes))
        elif self.settings.sampler == "balanced":
            prior = np.full(self.num_classes, 1 / self.num_classes)
        else:
            prior = np.bincount(labels, minlength=self.num_classes) / len(labels)
        return self.settings.prior_scale * torch.from_numpy(np.maximum(prior, SMALLEST_PRIOR)).float().log()

    def tensors(self, batch: Batch, mean: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mixed, augmented, normalised images (B, 3, H, W) and soft targets (B, C) on ``mean``'s device."""
        images, targets = self._take(self.original, batch.original, mean.device)
        if batch.generated is not None and batch.lam is not None:
            others, other_targets = self._take(self.generated, batch.generated, mean.device)
            lam = torch.from_numpy(batch.lam).float().to(mean.device)
            images, targets = mix(images, others, lam), mix(targets, other_targets, lam)
        return (images - mean) / std, targets

    def _take(self, part: ImageSet, rows: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        images = part.pixels[torch.from_numpy(rows)].to(device).float() / 255
        targets = F.one_hot(torch.from_numpy(part.labels[rows]), self.num_classes).float().to(device)
        return augment(images, self.settings.augment, self._generator), targets


def train(
    trainer: Trainer,
    classifier: Classifier,
    normalisation: tuple[torch.Tensor, torch.Tensor],
    device: str,
    validate: Callable[[torch.nn.Module], dict[str, float | None]],
    on_step: Callable[[int], None],
) -> list[EpochMetrics]:
    """Train ``classifier`` in place and return one record an epoch.

    Args:
        normalisation: mean and std, (1, 3, 1, 1), of images in [0, 1].
        validate: called with the classifier after each epoch.
        on_step: called with the number of images after each step.
    """
    settings = trainer.settings
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="bf16" if settings.precision == "bf16" else "no")
    optimizer = _build_optimizer(trainer, classifier)
    total = settings.epochs * trainer.steps_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, settings.warmup_steps, total))
    model, optimizer = accelerator.prepare(classifier, optimizer)
    mean, std = (tensor.to(accelerator.device) for tensor in normalisation)
    history: list[EpochMetrics] = []
    losses: list[float] = []
    start = time.monotonic()
    for step, (epoch, batch) in enumerate(trainer.batches()):
        if step % trainer.steps_per_epoch == 0:
            prior = trainer.log_prior(epoch)
            log_prior = prior.to(accelerator.device) if prior is not None else None
        images, targets = trainer.tensors(batch, mean, std)
        mine = slice(accelerator.process_index, None, accelerator.num_processes)
        model.train()
        with accelerator.autocast():
            logits = model(images[mine])
        loss = soft_cross_entropy(logits.float(), targets[mine], log_prior)
        accelerator.backward(loss)
        if step == 0:
            check_gradients(classifier.named_parameters())
        optimizer.step()
        lr = float(schedule.get_last_lr()[0])
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        on_step(len(images))
        if (step + 1) % trainer.steps_per_epoch == 0:
            rate = len(losses) * settings.batch_size / (time.monotonic() - start)
            classifier.eval()
            history.append(EpochMetrics(epoch, float(np.mean(losses)), lr, round(rate, 1), validate(classifier)))
            losses, start = [], time.monotonic()
    return history


def _build_optimizer(trainer: Trainer, classifier: Classifier) -> torch.optim.Optimizer:
    settings = trainer.settings
    groups: list[dict[str, Any]] = [
        {"params": [p for n, p in classifier.named_parameters() if p.requires_grad and not n.startswith("head.")]},
        {"params": [p for p in classifier.head.parameters() if p.requires_grad], "lr": settings.head_lr or settings.lr},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)


def _lr_factor(step: int, warmup_steps: int, total: int) -> float:
    """Return linear rise, then half a cosine to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps))
