"""What was measured on the test images: the arms of a run, by group and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ltgc_local.datasets.groups import shot_of
from ltgc_local.recipe import Recipe
from ltgc_local.records import Shot
from ltgc_local.reporting.method_report import MethodReport


@dataclass(frozen=True)
class Arm:
    """One classifier of the test images; accuracies in percent, None for a group without classes.

    ``minus_control`` has, by group, the paired bootstrap interval in points of its difference from the control.
    """

    name: str
    title: str
    detail: str
    by_group: Mapping[str, float | None]
    by_class: Mapping[int, float]
    minus_control: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Group:
    """How many classes and test images a group's accuracy is based on."""

    name: str
    num_classes: int
    num_test: int


@dataclass(frozen=True)
class ClassRow:
    """One class: its numbers of images, and each arm's accuracy on it."""

    class_id: int
    name: str
    num_train: int
    shot: Shot
    num_generated: int
    num_excluded: int
    is_tail: bool
    accuracy: Mapping[str, float | None]  # arm's name -> percent
    treated: str  # the arm that is compared with the control

    @property
    def difference(self) -> float | None:
        """The method minus its control, in points."""
        return subtract(self.accuracy.get(self.treated), self.accuracy.get("control"))


def subtract(one: float | None, other: float | None) -> float | None:
    """Return the difference; None if either is missing."""
    return None if one is None or other is None else one - other


def read_arms(metrics: Mapping[str, Any], recipe: Recipe, method: MethodReport) -> tuple[Arm, ...]:
    """Return the arms of ``evaluate/metrics.json``: zero-shot, controls, the method after its parts, then others."""
    order = ("zero_shot", "vlm_zero_shot", "control", method.name)

    def place(name: str) -> tuple[int, bool, str]:
        whole = next((known for known in order if name == known or name.startswith(f"{known}_")), "")
        return (order.index(whole) if whole else len(order)), name == whole, name

    arms = []
    for name in sorted(metrics, key=place):
        measured = metrics[name]
        intervals = {**measured.get("minus_control", {}), **measured.get("side_minus_control", {})}
        arms.append(
            Arm(
                name,
                *method.describe_arm(name, recipe, measured),
                {group: measured.get(group) for group in method.groups},
                {int(class_id): value for class_id, value in measured["per_class"].items()},
                {group: (interval[0], interval[1]) for group, interval in intervals.items() if interval},
            )
        )
    return tuple(arms)


def read_groups(
    class_counts: Mapping[int, int], test_counts: Mapping[int, int], tail: Sequence[int], names: Sequence[str]
) -> tuple[Group, ...]:
    """Return the groups of these names with their numbers of classes and test images."""
    in_tail = set(tail)
    groups_of = {c: ("all", shot_of(count), "tail" if c in in_tail else "head") for c, count in class_counts.items()}
    members = {name: [c for c, groups in groups_of.items() if name in groups] for name in names}
    return tuple(Group(g, len(ids), sum(test_counts.get(c, 0) for c in ids)) for g, ids in members.items())


def list_classes(
    class_names: Sequence[str],
    class_counts: Mapping[int, int],
    generated: Mapping[int, int],
    excluded: Mapping[int, int],
    arms: Sequence[Arm],
    tail: Sequence[int],
    treated: str,
) -> tuple[ClassRow, ...]:
    """Return every class, the one with most training images first."""
    in_tail = set(tail)
    rows = (
        ClassRow(
            class_id=c,
            name=class_names[c],
            num_train=count,
            shot=shot_of(count),
            num_generated=generated.get(c, 0),
            num_excluded=excluded.get(c, 0),
            is_tail=c in in_tail,
            accuracy={arm.name: arm.by_class.get(c) for arm in arms},
            treated=treated,
        )
        for c, count in class_counts.items()
    )
    return tuple(sorted(rows, key=lambda row: (-row.num_train, row.name)))
