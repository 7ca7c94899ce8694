"""The weights that a training keeps, a moving average or the best epoch's, and its learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ltgc_local.errors import DataError
from ltgc_local.training.checkpoints import Groups

Weights = Mapping[str, torch.Tensor]
#: ``select`` -> the measures on validation images whose mean decides.
SELECTED_BY = {
    "best_val_all": ("all",),
    "best_val_few": ("few",),
    "best_val_groups": ("many", "medium", "few"),
    "best_val_macro_f1": ("macro_f1",),
}


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that train, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def clone_weights(weights: Weights) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@torch.no_grad()
def load_weights_(parameters: Weights, weights: Weights) -> None:
    """Copy ``weights``, which may hold more, into ``parameters``."""
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


def warmup_cosine(step: int, warmup_steps: int, total: int) -> float:
    """Return the factor of a learning rate that rises linearly, then falls by half a cosine to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps))


class MovingAverage:
    """average <- decay * average + (1 - decay) * weights, once per step; decay 0 turns it off."""

    def __init__(self, parameters: Weights, decay: float) -> None:
        self._parameters = parameters
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.weights: Weights = clone_weights(parameters) if decay else {}

    def update(self) -> None:
        if self.weights:
            self._average(list(self.weights.values()), [self._parameters[name] for name in self.weights], 0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the weights by their average inside the context."""
        if not self.weights:
            yield
            return
        current = clone_weights(self._parameters)
        load_weights_(self._parameters, self.weights)
        try:
            yield
        finally:
            load_weights_(self._parameters, current)


class Selection:
    """The weights of the epoch that ``select`` asks for; the earliest of equally good ones."""

    def __init__(self, block: str, by: str, name: str = "selected") -> None:
        """Start without weights.

        Args:
            block: of the recipe, which ``select`` is a key of.
            by: its value: ``last``, or a key of ``SELECTED_BY``.
            name: of the group of a checkpoint.
        """
        self._block, self._by, self._name = block, by, name
        self.epoch, self.score = -1, -math.inf
        self.weights: Weights = {}

    def offer(self, epoch: int, validation: Mapping[str, float | None], weights: Weights) -> None:
        """Keep these weights if ``select`` prefers them to what is kept.

        Raises:
            DataError: it selects by a group that has no validation image.
        """
        score = math.inf
        if self._by != "last":
            values = [value for group in SELECTED_BY[self._by] if (value := validation.get(group)) is not None]
            if not values:
                raise DataError(
                    f"{self._block}: select is {self._by}, but no validation image is of that group; "
                    f"type --set {self._block}.select=last"
                )
            score = sum(values) / len(values)
        if score > self.score or self._by == "last":
            self.epoch, self.score, self.weights = epoch, score, clone_weights(weights)

    def state(self) -> Groups:
        choice = {"epoch": torch.tensor(self.epoch), "score": torch.tensor(self.score, dtype=torch.float64)}
        return {self._name: self.weights, f"{self._name} choice": choice}

    def load_state(self, groups: Groups) -> None:
        self.weights, choice = groups.get(self._name, {}), groups[f"{self._name} choice"]
        self.epoch, self.score = int(choice["epoch"]), float(choice["score"])
