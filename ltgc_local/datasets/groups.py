"""Groups of classes by their number of training images, and how many images each class is to get."""

from __future__ import annotations

from collections.abc import Mapping

from ltgc_local.records import Shot

SHOTS: tuple[Shot, ...] = ("many", "medium", "few")


def shot_of(num_train: int) -> Shot:
    """Return the group of a class: many > 100, medium 20-100, few < 20 training images (LTGC, evaluation setup)."""
    return "many" if num_train > 100 else "medium" if num_train >= 20 else "few"


def tail_classes(class_counts: Mapping[int, int], tail_below: int) -> list[int]:
    """Return the ids of the classes with fewer than ``tail_below`` training images, ascending."""
    return sorted(class_id for class_id, count in class_counts.items() if count < tail_below)


def num_extended(num_existing: int, max_descriptions: int) -> int:
    """Return N_y = K_y - M_y, the number of descriptions to add to a class (at least 0)."""
    return max(0, max_descriptions - num_existing)
