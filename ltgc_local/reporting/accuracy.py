"""What was measured on the test images: the arms of a run, by group and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ltgc_local.datasets.groups import shot_of
from ltgc_local.recipe import Recipe
from ltgc_local.records import Shot
from ltgc_local.reporting.reported import MethodReport


@dataclass(frozen=True)
class Arm:
    """One way of recognising the test images; accuracies in percent, None for a group without classes.

    ``minus_control`` has the paired bootstrap interval, in points, of the difference from the control by group.
    """

    name: str
    title: str
    detail: str
    by_group: Mapping[str, float | None]
    by_class: Mapping[int, float]
    minus_control: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Group:
    """How much a group's accuracy rests on."""

    name: str
    num_classes: int
    num_test: int


@dataclass(frozen=True)
class ClassRow:
    """One class: its images before and after, and each arm's accuracy on it."""

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
    """Return the difference, None where either is missing."""
    return None if one is None or other is None else one - other


def read_arms(metrics: Mapping[str, Any], recipe: Recipe, method: MethodReport) -> tuple[Arm, ...]:
    """Return the arms of ``evaluate/metrics.json``: zero-shot, control, the method, then any other."""
    order = ("zero_shot", "vlm_zero_shot", "control", method.name)
    names = sorted(metrics, key=lambda name: (order.index(name) if name in order else len(order), name))
    return tuple(
        Arm(
            name,
            *method.describe_arm(name, recipe, metrics[name]),
            {group: metrics[name].get(group) for group in method.groups},
            {int(class_id): value for class_id, value in metrics[name]["per_class"].items()},
            _minus_control(metrics[name]),
        )
        for name in names
    )


def _minus_control(measured: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    found = {**measured.get("minus_control", {}), **measured.get("side_minus_control", {})}
    return {group: (interval[0], interval[1]) for group, interval in found.items() if interval}


def read_groups(
    class_counts: Mapping[int, int], test_counts: Mapping[int, int], tail: Sequence[int], names: Sequence[str]
) -> tuple[Group, ...]:
    """Return the groups of these names with their numbers of classes and test images."""
    in_tail = set(tail)
    groups_of = {
        class_id: ("all", shot_of(count), "tail" if class_id in in_tail else "head")
        for class_id, count in class_counts.items()
    }
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
            class_id,
            class_names[class_id],
            count,
            shot_of(count),
            generated.get(class_id, 0),
            excluded.get(class_id, 0),
            class_id in in_tail,
            {arm.name: arm.by_class.get(class_id) for arm in arms},
            treated,
        )
        for class_id, count in class_counts.items()
    )
    return tuple(sorted(rows, key=lambda row: (-row.num_train, row.name)))
