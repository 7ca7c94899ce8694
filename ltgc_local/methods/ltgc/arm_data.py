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
from ltgc_local.training.sampling import BalancedSampler, ClassOrders, shuffled

REPLACING = 1  # beside the seed: the random numbers of ``train.mixing: replace``


@dataclass(frozen=True)
class Batch:
    """Rows (B,). The last M of them are mixed with the rows ``others`` (M,); ``lam`` (M,) is the share of ``rows``."""

    rows: np.ndarray
    others: np.ndarray | None = None
    lam: np.ndarray | None = None

    def part_of_others(self, part: slice) -> slice:
        """Return which of ``others`` belong to ``part`` of ``rows``: all of it, or every nth row from a first one."""
        num_single = len(self.rows) - (0 if self.others is None else len(self.others))
        return slice(((part.start or 0) - num_single) % (part.step or 1), None, part.step)


#: Pixels uint8: (B, 3, H, W) of a batch's ``rows`` and, of pairs, (M, 3, H, W) of its ``others``.
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
        replace = self._replacer()

        def pairs(num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            others = num_real + np.array([next(generated) for _ in range(num)])
            lam = rng.beta(alpha, beta, num)
            return balanced.take(num), others, lam

        for epoch in range(settings.epochs):
            for _ in range(self.steps_per_epoch):
                if self.is_real(epoch):
                    yield epoch, Batch(draw_real(size))
                elif self.mixing == "balance_mix":
                    yield epoch, Batch(*pairs(size))
                elif self.mixing == "replace":
                    yield epoch, Batch(replace(draw(size)))
                elif self.mixing == "joint":
                    first = replace(draw(settings.num_replacing))
                    rows, others, lam = pairs(size - len(first))
                    yield epoch, Batch(np.concatenate([first, rows]), others, lam)
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
        """Return tau log pi for an epoch's batches (see ``priors``); 0 for plain cross-entropy.

        Returns:
            (C,) for all images of a batch, or (B, C), a row per image, for ``joint``, whose two parts have two priors.
        """
        settings = self.settings
        mixing = "none" if self.is_real(epoch) else self.mixing
        if mixing != "joint":
            return self._log_prior(mixing, settings.prior_scale)
        scale = settings.prior_scale if settings.mix_prior_scale is None else settings.mix_prior_scale
        first, second = self._log_prior("replace", settings.prior_scale), self._log_prior("balance_mix", scale)
        num = settings.num_replacing
        return torch.stack([first] * num + [second] * (settings.batch_size - num))

    def _log_prior(self, mixing: str, scale: float) -> torch.Tensor:
        """Return tau log pi, (C,), for batches that are all mixed in one way."""
        if self.settings.loss == "cross_entropy":
            return torch.zeros(self.num_classes)
        return scaled_log(self._prior(mixing), scale)

    def _prior(self, mixing: str) -> np.ndarray:
        settings = self.settings
        if settings.loss == "balanced_softmax" or settings.prior == "counts":
            images = self.images.labels if mixing == "balance_mix" else self._labels(mixing)
            return class_shares(images, self.num_classes, False)
        if settings.prior == "originals":
            return class_shares(self.original.labels, self.num_classes, False)
        if mixing == "balance_mix":
            alpha, beta = settings.mix_alpha, settings.mix_beta or settings.mix_alpha
            original = class_shares(self.original.labels, self.num_classes, True)
            generated = class_shares(self.generated.labels, self.num_classes, False)
            return effective_prior(original, generated, alpha / (alpha + beta))
        # ``replace`` swaps images within their class, so its shares are those of the sampler.
        return class_shares(self._labels(mixing), self.num_classes, settings.sampler == "balanced")

    def gather(self, batch: Batch, part: slice = slice(None), pin: bool = False) -> Pixels:
        """Copy the pixels of a part of a batch, this process's, from memory or the mapped files."""
        pixels = self.images.gather(batch.rows[part], pin)
        if batch.others is None:
            return (pixels,)
        return pixels, self.images.gather(batch.others[batch.part_of_others(part)], pin)

    def tensors(
        self, batch: Batch, pixels: Pixels, mean: torch.Tensor, std: torch.Tensor, part: slice = slice(None)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return augmented, mixed, normalised images (B, 3, H, W) and soft targets (B, C) on ``mean``'s device.

        Args:
            pixels: as ``gather`` returned them for the same part.
        """
        images, targets = self._augmented(batch.rows, pixels[0], mean.device, Share(len(batch.rows), part))
        if batch.others is not None and batch.lam is not None:
            share = Share(len(batch.others), batch.part_of_others(part))
            others, other_targets = self._augmented(batch.others, pixels[1], mean.device, share)
            lam = to_device(torch.from_numpy(batch.lam[share.part]).float(), mean.device)
            num_single = len(images) - len(others)  # in the whole batch or in this part of it
            if self.settings.mix_form == "mask":
                mixed, lam = mix_masked(images[num_single:], others, lam, self.generator, share)
            else:
                mixed = mix(images[num_single:], others, lam)
            images = torch.cat([images[:num_single], mixed])
            targets = torch.cat([targets[:num_single], mix(targets[num_single:], other_targets, lam)])
        return (images - mean) / std, targets

    def _labels(self, mixing: str) -> np.ndarray:
        """Return the labels of the images to sample from: all images for a union or Mixup, else the originals."""
        return self.images.labels if mixing in ("union", "mixup") else self.original.labels

    def _replacer(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function that swaps rows (B,) of originals for generated images of their class.

        It has random numbers of its own: ``replace`` swaps images of the very batches that the control trains on.
        """
        rng = np.random.default_rng([self._seed, REPLACING])
        orders, share, first = ClassOrders(self.generated.labels, rng), self.settings.replace_share, len(self.original)
        has_generated = np.isin(self.original.labels, orders.class_ids)

        def replace(rows: np.ndarray) -> np.ndarray:
            swaps = (rng.random(len(rows)) < share) & has_generated[rows]
            replaced = rows.copy()
            replaced[swaps] = [first + orders.next_of(int(c)) for c in self.original.labels[rows[swaps]]]
            return replaced

        return replace

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
