"""Groups: many > 100, medium 20 to 100, few < 20 training images."""

from __future__ import annotations

import pytest

from ltgc_local.datasets.groups import SHOTS, num_extended, shot_of, tail_classes


@pytest.mark.parametrize(
    ("num_train", "shot"),
    [(0, "few"), (1, "few"), (19, "few"), (20, "medium"), (100, "medium"), (101, "many"), (1280, "many")],
)
def test_groups_change_at_20_and_above_100(num_train: int, shot: str) -> None:
    assert shot_of(num_train) == shot
    assert shot in SHOTS


def test_tail_classes_have_fewer_images_than_the_limit_and_come_in_order() -> None:
    counts = {5: 99, 2: 100, 9: 0, 1: 101, 0: 20}
    assert tail_classes(counts, 100) == [0, 5, 9]
    assert tail_classes(counts, 20) == [9]
    assert tail_classes(counts, 0) == []


@pytest.mark.parametrize(
    ("num_existing", "max_descriptions", "expected"), [(10, 100, 90), (0, 100, 100), (100, 100, 0), (101, 100, 0)]
)
def test_what_is_added_is_k_minus_m_and_never_negative(num_existing: int, max_descriptions: int, expected: int) -> None:
    assert num_extended(num_existing, max_descriptions) == expected
