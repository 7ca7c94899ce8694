"""Choose an ensemble's weights and its class prior on validation images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from ltgc_local.datasets.groups import SHOTS, shot_of
from ltgc_local.evaluation.tilt import TAUS, log_counts, tilted_classes
from ltgc_local.training.tta import combine

#: Towers -> steps between two weights of a tower, so that there are some hundred choices at most; ours.
STEPS = {1: 1, 2: 20, 3: 10, 4: 8}
STEPS_OF_MORE = 4
ROUNDING = 1e-9  # accuracies nearer to each other than this are equal


@dataclass(frozen=True)
class Limit:
    """What a choice may lose on a group against a control.

    Attributes:
        control: which of the images the control classifies correctly, (N,).
        at_most: in points. A choice is refused if its loss exceeds this by more than the loss's standard error, so that
            few images do not refuse by chance (the one-standard-error rule of Breiman et al. 1984).
    """

    group: str
    control: np.ndarray
    at_most: float


@dataclass(frozen=True)
class Chosen:
    """Weights (K) that sum to 1, tau, and the accuracies that they reach on the images that chose them.

    ``within_limit`` says whether any choice kept the limit; if none did, this is the one that comes nearest to it.
    """

    weights: tuple[float, ...]
    tau: float
    validation: Mapping[str, float | None]
    within_limit: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return it as a step stores it."""
        return asdict(self)


def choose(
    logits: Sequence[torch.Tensor],
    labels: np.ndarray,
    class_counts: Mapping[int, int],
    *,
    maximise: Literal["all", "groups"] = "all",
    weighs: bool = True,
    tilts: bool = False,
    limit: Limit | None = None,
) -> Chosen:
    """Return the weights and the tau with the best accuracy; of several that are equal, the one in their middle.

    Args:
        logits: of each tower, (N, C).
        labels: (N,).
        class_counts: class id -> number of training images.
        maximise: the accuracy on all images, or the mean of those on many, medium and few.
        weighs: otherwise all towers count alike.
        tilts: otherwise tau is 0.
        limit: what the choice must not fall below.
    """
    shots = np.array([shot_of(class_counts.get(int(label), 0)) for label in labels])
    groups = {"all": np.ones(len(labels), bool)} | {s: shots == s for s in SHOTS if (shots == s).any()}
    log_n, taus = log_counts(class_counts), (TAUS if tilts else (0.0,))
    candidates: list[tuple[tuple[float, ...], float]] = []
    reached: list[list[float]] = []
    losses: list[tuple[float, float]] = []
    limited = groups.get(limit.group) if limit is not None else None
    for weights in simplex(len(logits)) if weighs else [(1 / len(logits),) * len(logits)]:
        correct = tilted_classes(combine(logits, weights, 0.0, log_n), log_n, taus) == labels[:, None]  # (N, T)
        for place, tau in enumerate(taus):
            candidates.append((weights, tau))
            reached.append([100 * float(correct[rows, place].mean()) for rows in groups.values()])
            if limit is not None and limited is not None:
                losses.append(loss_of(limit.control[limited], correct[limited, place]))
    table = np.array(reached)  # (choices, groups)
    names = list(groups)
    goal = table[:, 0] if maximise == "all" else table[:, 1:].mean(1)
    allowed, is_kept = np.ones(len(table), bool), True
    if limit is not None and losses:
        loss, error = np.array(losses).T
        within = loss - error <= limit.at_most + ROUNDING
        is_kept = bool(within.any())
        allowed, goal = (within, goal) if is_kept else (allowed, -loss)
    best = np.flatnonzero(allowed & (goal >= goal[allowed].max() - ROUNDING))
    places = np.array([(*candidates[row][0], candidates[row][1]) for row in best])
    row = best[np.square(places - places.mean(0)).sum(1).argmin()]
    weights, tau = candidates[row]
    measured = {name: round(float(value), 4) for name, value in zip(names, table[row], strict=True)}
    return Chosen(weights, tau, {s: measured.get(s) for s in ("all", *SHOTS)}, is_kept)


def loss_of(control: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Return what is lost against a control in points, and its standard error, paired by image (N,)."""
    losses = 100.0 * (control.astype(float) - correct)
    return float(losses.mean()), float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0


def simplex(num: int) -> Iterator[tuple[float, ...]]:
    """Yield weights of ``num`` towers that sum to 1, evenly spaced; and equal ones, if they are not among these."""
    steps = STEPS.get(num, STEPS_OF_MORE)
    for numbers in _parts(num, steps):
        yield tuple(number / steps for number in numbers)
    if steps % num:
        yield (1 / num,) * num


def _parts(num: int, total: int) -> Iterator[tuple[int, ...]]:
    if num == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _parts(num - 1, total - first):
            yield (first, *rest)
