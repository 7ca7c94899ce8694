"""How far accuracies can be trusted: bootstrap intervals over test images, t intervals over seeds.

The bootstrap is stratified by class, because the benchmark chose how many test images each class has. A value is -1, 0
or 1 (right or wrong; or, paired, the difference of two models on an image), so resampling a class's images is one
multinomial draw of the number of each value. That is exact, and no row is ever touched.

Differs from the plain bootstrap: n - 1 of a class's n images are drawn (Rao and Wu 1988; McCarthy and Snowden 1985).
With n drawn the variance of a class's mean would be (n - 1) / n too small: a third at iNaturalist's 3 images per class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ltgc_local.datasets.groups import SHOTS, shot_of

Interval = tuple[float, float]

#: What has an interval: means over images, and the mean over classes. A minimum over classes has none: it is biased.
INTERVAL_KEYS = ("all", *SHOTS, "macro")
_CLASSES_AT_ONCE = 256  # limits memory: 2000 resamples of 256 classes are 12 MB


@dataclass(frozen=True)
class Resampling:
    """Confidence level in (0, 1), number of resamples, seed."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class OverSeeds:
    """Mean, standard deviation and t interval over seeds; the latter two are None for a single value."""

    mean: float
    sd: float | None
    interval: Interval | None


def accuracy_intervals(
    correct: np.ndarray,
    labels: np.ndarray,
    class_counts: Mapping[int, int],
    resampling: Resampling,
    minus: np.ndarray | None = None,
) -> dict[str, Interval | None]:
    """Return percentile intervals of accuracies in percent, by ``INTERVAL_KEYS``; None for a group without images.

    Args:
        correct: (N,) bool.
        labels: (N,) class ids.
        class_counts: class id -> number of TRAINING images, which decides a class's group.
        minus: (N,) bool, ``correct`` of another model: the intervals are then of the difference of the two accuracies,
            in points, paired by image.
    """
    values = correct.astype(np.int64) - (0 if minus is None else minus.astype(np.int64))
    class_ids, sizes = np.unique(labels, return_counts=True)
    shots = np.array([shot_of(class_counts.get(int(c), 0)) for c in class_ids])
    rng = np.random.default_rng(resampling.seed)
    sums = {key: np.zeros(resampling.resamples) for key in INTERVAL_KEYS}
    positions = np.searchsorted(class_ids, labels)
    shares = np.stack(
        [np.bincount(positions, weights=values == v, minlength=len(sizes)) / sizes for v in (1, -1, 0)], axis=-1
    )  # (C, 3)
    for start in range(0, len(sizes), _CLASSES_AT_ONCE):
        part = slice(start, start + _CLASSES_AT_ONCE)
        drawn = np.maximum(sizes[part] - 1, 1)
        counts = rng.multinomial(drawn, shares[part], size=(resampling.resamples, len(drawn)))  # (R, c, 3)
        means = (counts[..., 0] - counts[..., 1]) / drawn  # (R, c)
        sums["all"] += means @ sizes[part]
        sums["macro"] += means.sum(1)
        for shot in SHOTS:
            sums[shot] += means @ (sizes[part] * (shots[part] == shot))
    totals = {"all": sizes.sum(), "macro": len(sizes)} | {shot: sizes[shots == shot].sum() for shot in SHOTS}
    outside = (1 - resampling.level) / 2
    intervals: dict[str, Interval | None] = dict.fromkeys(INTERVAL_KEYS)
    for key in INTERVAL_KEYS:
        if totals[key]:
            low, high = np.quantile(100 * sums[key] / totals[key], [outside, 1 - outside])
            intervals[key] = round(float(low), 4), round(float(high), 4)
    return intervals


def resampled_means(values: np.ndarray, labels: np.ndarray, resampling: Resampling) -> np.ndarray:
    """Return the mean over images of each column in each resample, (R, K), stratified by class.

    A resample takes the same images for all columns, so their differences are paired.

    Args:
        values: (N, K).
        labels: (N,) class ids.
    """
    rng = np.random.default_rng(resampling.seed)
    means = np.zeros((resampling.resamples, values.shape[1]))
    for class_id in np.unique(labels):
        mine = values[labels == class_id].astype(np.float32)
        drawn = max(len(mine) - 1, 1)
        counts = rng.multinomial(drawn, np.full(len(mine), 1 / len(mine)), size=resampling.resamples)  # (R, n)
        means += counts.astype(np.float32) @ mine / drawn * (len(mine) / len(labels))
    return means


def over_seeds(values: Sequence[float], level: float = 0.95) -> OverSeeds:
    """Return mean, standard deviation and mean +- t(level, n - 1) * sd / sqrt(n)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return OverSeeds(mean, None, None)
    sd = float(np.std(values, ddof=1))
    half = t_quantile(level, len(values) - 1) * sd / math.sqrt(len(values))
    return OverSeeds(mean, sd, (mean - half, mean + half))


def t_quantile(level: float, degrees: int) -> float:
    """Return t with P(|T| <= t) = level for Student's T: Abramowitz and Stegun 26.7.3 and 26.7.4, by bisection."""
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_probability(middle, degrees) < level else (low, middle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _t_probability(theta: float, degrees: int) -> float:
    """Return P(|T| <= sqrt(degrees) * tan(theta))."""
    odd = degrees % 2 == 1
    term = total = math.cos(theta) if odd else 1.0
    for k in range(3 if odd else 2, degrees, 2):
        term *= (k - 1) / k * math.cos(theta) ** 2
        total += term
    if not odd:
        return math.sin(theta) * total
    return 2 / math.pi * (theta + (math.sin(theta) * total if degrees > 1 else 0.0))
