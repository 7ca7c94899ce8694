"""The data of one arm: the images that each batch samples and mixes, and the class prior of its loss.

One epoch is len(D_o) pairs, so every arm takes the same number of steps. Rows number the originals first, then the
generated images. Batches depend only on the seed, so a training resumed from a checkpoint continues with the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ltgc_local.backends.torch_device import to_device
from ltgc_local.methods.ltgc.balance_mix import mix, mix_masked
from ltgc_local.methods.ltgc.priors import class_shares, effective_prior, scaled_log
from ltgc_local.recipe.learning import Train
from ltgc_local.training.augment import Share, augment
from ltgc_local.training.images import ImageSet
from ltgc_local.training.sampling import BalancedSampler, shuffled


@dataclass(frozen=True)
class Batch:
    """Rows (B,) and, for mixed pairs, the rows ``others`` (B,) with ``lam`` (B,), the share of ``rows``."""

    rows: np.ndarray
    others: np.ndarray | None = None
    lam: np.ndarray | None = None


#: Pixels (B, 3, H, W) uint8 of a batch's ``rows`` and, of pairs, of its ``others``.
Pixels = tuple[torch.Tensor, ...]


class ArmData:
    """The images, the sampling and the prior of one arm."""

    def __init__(
        self, settings: Train, mixing: str, original: ImageSet, generated: ImageSet, num_classes: int, seed: int
    ) -> None:
        self.settings = settings
        self.num_classes = num_classes  # of the head; some classes may have no original
        self.mixing = mixing if len(generated) else "none"
        self.original, self.generated, self.images = original, generated, original + generated
        self.steps_per_epoch = math.ceil(len(original) / settings.batch_size)
        self.generator = torch.Generator().manual_seed(seed)  # for augmentation; checkpoints keep its state
        self._seed = seed

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """Yield (epoch, batch) for all epochs; the last ``real_epochs`` have no generated images."""
        settings, size, num_real = self.settings, self.settings.batch_size, len(self.original)
        rng = np.random.default_rng(self._seed)
        alpha, beta = settings.mix_alpha, settings.mix_beta or settings.mix_alpha
        balanced = BalancedSampler(self._labels(self.mixing), rng)
        balanced_real = BalancedSampler(self._labels("none"), rng)
        draw = self._drawer(balanced, shuffled(len(self._labels(self.mixing)), rng))
        draw_real = self._drawer(balanced_real, shuffled(num_real, rng))
        generated = shuffled(len(self.generated), rng)
        for epoch in range(settings.epochs):
            for _ in range(self.steps_per_epoch):
                if self.is_real(epoch):
                    yield epoch, Batch(draw_real(size))
                elif self.mixing == "balance_mix":
                    others = num_real + np.array([next(generated) for _ in range(size)])
                    lam = rng.beta(alpha, beta, size)
                    yield epoch, Batch(balanced.take(size), others, lam)
                elif self.mixing == "mixup":
                    yield epoch, Batch(draw(size), draw(size), rng.beta(alpha, beta, size))
                else:
                    yield epoch, Batch(draw(size))

    def is_real(self, epoch: int) -> bool:
        """Return whether an epoch is one of the last ``real_epochs``, which train on originals only."""
        return epoch >= self.settings.epochs - self.settings.real_epochs

    def is_last_layer(self, epoch: int) -> bool:
        """Return whether an epoch is one of the last ``last_layer_epochs``, which train the head alone."""
        return epoch >= self.settings.epochs - self.settings.last_layer_epochs

    def log_prior(self, epoch: int = 0) -> torch.Tensor:
        """Return tau log pi, (C,), for an epoch's batches (see ``priors``); 0 for plain cross-entropy."""
        settings = self.settings
        if settings.loss == "cross_entropy":
            return torch.zeros(self.num_classes)
        mixing = "none" if self.is_real(epoch) else self.mixing
        if settings.loss == "balanced_softmax" or settings.prior == "counts":
            images = self.images.labels if mixing == "balance_mix" else self._labels(mixing)
            return scaled_log(class_shares(images, self.num_classes, False), settings.prior_scale)
        if mixing == "balance_mix":
            alpha, beta = settings.mix_alpha, settings.mix_beta or settings.mix_alpha
            original = class_shares(self.original.labels, self.num_classes, True)
            generated = class_shares(self.generated.labels, self.num_classes, False)
            prior = effective_prior(original, generated, alpha / (alpha + beta))
        else:
            prior = class_shares(self._labels(mixing), self.num_classes, settings.sampler == "balanced")
        return scaled_log(prior, settings.prior_scale)

    def gather(self, batch: Batch, part: slice = slice(None), pin: bool = False) -> Pixels:
        """Copy the pixels of a part of a batch, this process's, from memory or the mapped files."""
        return tuple(self.images.gather(rows[part], pin) for rows in (batch.rows, batch.others) if rows is not None)

    def tensors(
        self, batch: Batch, pixels: Pixels, mean: torch.Tensor, std: torch.Tensor, part: slice = slice(None)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return augmented, mixed, normalised images (B, 3, H, W) and soft targets (B, C) on ``mean``'s device.

        Args:
            pixels: as ``gather`` returned them for the same part.
        """
        share = Share(len(batch.rows), part)
        images, targets = self._augmented(batch.rows, pixels[0], mean.device, share)
        if batch.others is not None and batch.lam is not None:
            others, other_targets = self._augmented(batch.others, pixels[1], mean.device, share)
            lam = to_device(torch.from_numpy(batch.lam[part]).float(), mean.device)
            if self.settings.mix_form == "mask":
                images, lam = mix_masked(images, others, lam, self.generator, share)
            else:
                images = mix(images, others, lam)
            targets = mix(targets, other_targets, lam)
        return (images - mean) / std, targets

    def _labels(self, mixing: str) -> np.ndarray:
        """Return the labels of the images to sample from: all images for a union or Mixup, else the originals."""
        return self.images.labels if mixing in ("union", "mixup") else self.original.labels

    def _drawer(self, balanced: BalancedSampler, every: Iterator[int]) -> Callable[[int], np.ndarray]:
        if self.settings.sampler == "balanced":
            return balanced.take
        return lambda num: np.array([next(every) for _ in range(num)])

    def _augmented(
        self, rows: np.ndarray, pixels: torch.Tensor, device: torch.device, share: Share
    ) -> tuple[torch.Tensor, torch.Tensor]:
        labels = to_device(torch.from_numpy(self.images.labels[rows[share.part]]), device)
        targets = F.one_hot(labels, self.num_classes).float()
        return augment(to_device(pixels, device).float() / 255, self.settings, self.generator, share), targets
