"""Optimiser and learning rate, and the weights that a training keeps: a moving average, the best epoch's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ltgc_local.errors import DataError
from ltgc_local.recipe.schema import Train
from ltgc_local.training.classifier import Classifier

Weights = dict[str, torch.Tensor]
#: ``train.select`` -> the groups whose mean accuracy on the validation images decides.
SELECTED_BY = {
    "best_val_all": ("all",),
    "best_val_few": ("few",),
    "best_val_groups": ("many", "medium", "few"),
}


def trained_parameters(classifier: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that train, by name."""
    return {name: parameter for name, parameter in classifier.named_parameters() if parameter.requires_grad}


def copy_of(parameters: Mapping[str, torch.Tensor]) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


@torch.no_grad()
def put_into(parameters: Mapping[str, torch.Tensor], weights: Weights) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


def build_optimizer(settings: Train, classifier: Classifier, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimiser of the adapters and of the head, which may have a learning rate of its own.

    On a GPU one kernel updates all of them, for they are hundreds of small matrices.
    """
    fused = True if device.type == "cuda" else None
    groups: list[dict[str, Any]] = [
        {"params": [p for n, p in classifier.named_parameters() if p.requires_grad and not n.startswith("head.")]},
        {"params": [p for p in classifier.head.parameters() if p.requires_grad], "lr": settings.head_lr or settings.lr},
    ]
    groups = [{"lr": settings.lr} | group for group in groups if group["params"]]
    groups = [group | {"peak_lr": group["lr"]} for group in groups]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=fused)
    return torch.optim.SGD(
        groups, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=fused
    )


def set_lr(optimizer: torch.optim.Optimizer, step: int, warmup_steps: int, total: int) -> float:
    """Set each group's learning rate of a step and return the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * lr_factor(step, warmup_steps, total)
    return float(optimizer.param_groups[0]["lr"])


def lr_factor(step: int, warmup_steps: int, total: int) -> float:
    """Return linear rise, then half a cosine to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps))


class MovingAverage:
    """average <- decay * average + (1 - decay) * weights, once a step; decay 0 is off."""

    def __init__(self, parameters: Mapping[str, torch.Tensor], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self.weights: Weights = copy_of(parameters) if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        for name, average in self.weights.items():
            average.lerp_(self._parameters[name], 1 - self._decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights for a while."""
        if not self.weights:
            yield
            return
        current = copy_of(self._parameters)
        put_into(self._parameters, self.weights)
        try:
            yield
        finally:
            put_into(self._parameters, current)


class Selection:
    """The weights of the epoch that ``train.select`` asks for; of two alike the earlier."""

    def __init__(self, by: str) -> None:
        self._by = by
        self.epoch = -1
        self.score = -math.inf
        self.weights: Weights = {}

    def offer(self, epoch: int, validation: Mapping[str, float | None], parameters: Mapping[str, torch.Tensor]) -> None:
        """Keep these weights if ``select`` prefers them to what is kept.

        Raises:
            DataError: it is by a group that has no class.
        """
        score = math.inf if self._by == "last" else self._score(validation)
        if score > self.score or self._by == "last":
            self.epoch, self.score, self.weights = epoch, score, copy_of(parameters)

    def _score(self, validation: Mapping[str, float | None]) -> float:
        values = [value for group in SELECTED_BY[self._by] if (value := validation[group]) is not None]
        if not values:
            raise DataError(
                f"train: select is {self._by}, but no validation image is of that group; "
                "type --set train.select=best_val_all"
            )
        return sum(values) / len(values)
