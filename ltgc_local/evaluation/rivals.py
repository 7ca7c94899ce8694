"""A method against each of its rivals where both do as well on the frequent classes.

A classifier that favours rare classes gets more of them right and fewer of the others, with or without generated
images. So two are compared by their curves: accuracy on rare classes against accuracy on frequent ones, drawn by tau
(``tilt``). Nothing is chosen on test images: a curve is all of its points, and where one tau is taken, validation
images chose it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ltgc_local.datasets.groups import SHOTS, shot_of
from ltgc_local.evaluation.intervals import Resampling, accuracy_intervals, resampled_means
from ltgc_local.evaluation.tilt import PLAIN_TAU, TAUS
from ltgc_local.records import Shot

NUM_LEVELS = 101  # places along the frequent classes' accuracy at which two curves are compared


@dataclass(frozen=True)
class Sides:
    """Which classes are rare and which are frequent, and what their groups are called."""

    rare: str
    frequent: str
    rare_ids: Collection[int]
    frequent_ids: Collection[int]


@dataclass(frozen=True)
class Tilted:
    """What every arm predicts for the images of a split at each tau: {arm: (N, T)}, and their labels (N,)."""

    classes: Mapping[str, np.ndarray]
    labels: np.ndarray

    def correct(self, arm: str) -> np.ndarray:
        """Return whether each prediction of an arm is right, (N, T)."""
        right: np.ndarray = self.classes[arm] == self.labels[:, None]
        return right


def draw_curve(correct: np.ndarray, labels: np.ndarray, sides: Sides) -> dict[str, list[float]]:
    """Return a curve's points: accuracies in percent (T) on all, on the rare and on the frequent classes."""
    rare, frequent = np.isin(labels, list(sides.rare_ids)), np.isin(labels, list(sides.frequent_ids))
    rows = {"all": np.ones(len(labels), bool), sides.rare: rare, sides.frequent: frequent}
    return {name: (100 * correct[mine].mean(0)).round(4).tolist() for name, mine in rows.items()}


def compare_curves(
    one: np.ndarray, other: np.ndarray, labels: np.ndarray, sides: Sides, resampling: Resampling
) -> dict[str, Any] | None:
    """Return how far one curve lies above another; None if they have no frequent accuracy in common.

    They are compared over the accuracies on frequent classes that both reach, down to where both know the rare classes
    as well as the frequent ones: nobody wants to lose more on these.

    Args:
        one, other: whether each prediction is right, (N, T).

    Returns:
        ``points``: the mean difference on rare classes; its ``interval``; ``least``: the smallest difference;
        ``between``: the accuracies on frequent classes over which they were compared.
    """
    means = [_both(each, labels, sides) for each in (one, other)]
    low = max(*(frequent.min() for frequent, _ in means), min(_balanced_at(*each) for each in means))
    high = min(frequent.max() for frequent, _ in means)
    if high <= low:
        return None
    levels = np.linspace(low, high, NUM_LEVELS)
    differences = _rare_at(levels, *means[0]) - _rare_at(levels, *means[1])
    both = np.concatenate([one, other], axis=1)
    rare, frequent = (
        resampled_means(both[mine], labels[mine], resampling)
        for mine in (np.isin(labels, list(sides.rare_ids)), np.isin(labels, list(sides.frequent_ids)))
    )  # (R, 2 T)
    num = one.shape[1]
    areas = [
        (_rare_at(levels, f[:num], r[:num]) - _rare_at(levels, f[num:], r[num:])).mean()
        for f, r in zip(100 * frequent, 100 * rare, strict=True)
    ]
    outside = (1 - resampling.level) / 2
    interval = np.quantile(areas, [outside, 1 - outside])
    return {
        "points": round(float(differences.mean()), 4),
        "interval": [round(float(end), 4) for end in interval],
        "least": round(float(differences.min()), 4),
        "between": [round(float(low), 4), round(float(high), 4)],
    }


def at_equal_frequent(
    validation: Tilted, test: Tilted, one: str, other: str, sides: Sides, counts: Mapping[int, int], how: Resampling
) -> dict[str, Any]:
    """Compare ``one`` with ``other``, which stays as it is, at the tau at which they are as good on frequent classes.

    Args:
        validation: the images that choose tau: the one at which the difference is smallest, and of several the one
            nearest to 0.
        test: the images that measure.

    Returns:
        ``tau``; ``one`` and ``other``: accuracies in percent; ``interval``: of their difference, by group.
    """
    wanted = validation.correct(other)[:, PLAIN_TAU]
    mine = np.isin(validation.labels, list(sides.frequent_ids))
    distance = np.abs(validation.correct(one)[mine].mean(0) - wanted[mine].mean())
    nearest = np.flatnonzero(distance <= distance.min() + 1e-9)
    place = min(nearest.tolist(), key=lambda each: abs(TAUS[each]))
    ours, theirs = test.correct(one)[:, place], test.correct(other)[:, PLAIN_TAU]
    intervals = accuracy_intervals(ours, test.labels, counts, how, minus=theirs)
    for name, ids in ((sides.rare, sides.rare_ids), (sides.frequent, sides.frequent_ids)):
        if name not in intervals:
            side = np.isin(test.labels, list(ids))
            intervals[name] = accuracy_intervals(ours[side], test.labels[side], counts, how, minus=theirs[side])["all"]
    names = ("all", sides.rare, sides.frequent)
    curves = [draw_curve(each[:, None], test.labels, sides) for each in (ours, theirs)]
    return {
        "tau": TAUS[place],
        "one": {name: curves[0][name][0] for name in names},
        "other": {name: curves[1][name][0] for name in names},
        "interval": {name: intervals[name] for name in names},
    }


def _both(correct: np.ndarray, labels: np.ndarray, sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    curve = draw_curve(correct, labels, sides)
    return np.array(curve[sides.frequent]), np.array(curve[sides.rare])


def _balanced_at(frequent: np.ndarray, rare: np.ndarray) -> float:
    """Return the accuracy on frequent classes at the first tau at which rare ones are known as well, or the least."""
    balanced = frequent[rare >= frequent]
    return float(balanced.max() if len(balanced) else frequent.min())


def _rare_at(levels: np.ndarray, frequent: np.ndarray, rare: np.ndarray) -> np.ndarray:
    """Return the best accuracy on rare classes (L) at no less than these accuracies on frequent ones (L).

    Between two points of a curve that no other point beats, the accuracy is on the line through them.
    """
    order = np.lexsort((-rare, -frequent))  # the most frequent first, and of equal ones the best
    best = np.maximum.accumulate(rare[order])
    x, y = frequent[order][::-1], best[::-1]
    keep = np.append(np.diff(x) > 0, True)  # of equal accuracies the last, which is the best
    found: np.ndarray = np.interp(levels, x[keep], y[keep])
    return found


def measure_rivals(
    validation: Tilted | None,
    test: Tilted,
    treated: str,
    sides: Sides,
    counts: Mapping[int, int],
    resampling: Resampling,
) -> dict[str, Any]:
    """Return the curves of all arms, each arm at the tau that is best on validation, and the method against its rivals.

    Args:
        validation: None if there are no images to choose by.
        treated: the method's own arm; the arms whose names start with it are parts of it, and the others its rivals.

    Returns:
        Nothing where the test images show no rare or no frequent class.
    """
    sides_of_test = [np.isin(test.labels, list(ids)).any() for ids in (sides.rare_ids, sides.frequent_ids)]
    if not all(sides_of_test):
        return {}
    if validation is not None and not np.isin(validation.labels, list(sides.frequent_ids)).any():
        validation = None
    rivals = [arm for arm in test.classes if not arm.startswith(treated)]
    curves = {arm: draw_curve(test.correct(arm), test.labels, sides) for arm in test.classes}
    tuned: dict[str, Any] = {}
    for arm, curve in curves.items():
        if validation is None:
            break
        reached = validation.correct(arm).mean(0)
        place = min(np.flatnonzero(reached == reached.max()).tolist(), key=lambda each: abs(TAUS[each]))
        tuned[arm] = {"tau": TAUS[place], **{name: values[place] for name, values in curve.items()}}
    versus = {
        rival: {
            "curve": compare_curves(test.correct(treated), test.correct(rival), test.labels, sides, resampling),
            "at_equal": at_equal_frequent(validation, test, treated, rival, sides, counts, resampling)
            if validation
            else None,
        }
        for rival in rivals
        if treated in test.classes
    }
    names = {"rare": sides.rare, "frequent": sides.frequent}
    return {"sides": names, "taus": list(TAUS), "curves": curves, "tuned": tuned, "versus": versus}


def sides_of(counts: Mapping[int, int], tail: Collection[int] | None = None) -> Sides | None:
    """Return which classes are rare and which frequent: tail and head, or the rarest shots there are, and many.

    Args:
        counts: class id -> number of training images.
        tail: the ids of the tail classes, of a method that splits the classes so.

    Returns:
        None if there are no two such groups.
    """
    if tail is not None:
        head = set(counts) - set(tail)
        return Sides("tail", "head", set(tail), head) if head and tail else None
    groups = {shot: {c for c, count in counts.items() if shot_of(count) == shot} for shot in SHOTS}
    rarest: tuple[Shot, ...] = ("few", "medium")
    rare = next((shot for shot in rarest if groups[shot]), None)
    return Sides(rare, "many", groups[rare], groups["many"]) if rare and groups["many"] else None
