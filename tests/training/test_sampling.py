"""What is drawn: every class equally often, or every image, and what a row is of a set of several parts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from ltgc_local.training.images import ImageSet
from ltgc_local.training.sampling import BalancedSampler, at_most, row_batches, shuffled


def test_every_class_is_drawn_equally_often() -> None:
    labels = np.repeat([0, 1, 2, 3], [1000, 100, 10, 1])
    rows = BalancedSampler(labels, np.random.default_rng(0)).take(8000)
    # 2000 expected of each, standard deviation sqrt(8000 * 1/4 * 3/4) = 38.7: five of them are 194.
    assert np.abs(np.bincount(labels[rows]) - 2000).max() < 194


def test_a_class_is_gone_through_before_an_image_comes_again() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 0])
    rows = BalancedSampler(labels, np.random.default_rng(1)).take(600)
    for class_id in (0, 1):
        of_class = [int(row) for row in rows if labels[row] == class_id]
        size = int((labels == class_id).sum())
        passes = [tuple(of_class[start : start + size]) for start in range(0, len(of_class) - size + 1, size)]
        assert all(len(set(one)) == size for one in passes)
        assert len(set(passes)) > 1  # in another order each time


def test_a_seed_gives_the_same_rows_however_they_are_taken() -> None:
    labels = np.array([0, 0, 1, 2, 2])
    one, other = (BalancedSampler(labels, np.random.default_rng(7)) for _ in range(2))
    assert one.take(5).tolist() == other.take(5).tolist()
    assert one.take(40).tolist() == other.take(40).tolist()
    assert one.take(40).tolist() != BalancedSampler(labels, np.random.default_rng(8)).take(40).tolist()


def test_class_ids_may_have_gaps() -> None:
    rows = BalancedSampler(np.array([5, 9, 9]), np.random.default_rng(0)).take(50)
    assert set(rows.tolist()) == {0, 1, 2}


def test_shuffled_yields_every_row_once_a_pass() -> None:
    order = shuffled(5, np.random.default_rng(0))
    passes = [[next(order) for _ in range(5)] for _ in range(4)]
    assert all(Counter(one) == Counter(range(5)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_batches_have_every_image_equally_often_or_every_class() -> None:
    labels = np.array([0] * 20 + [1] * 3 + [2])
    batches = row_batches(labels, 6, "instance", 0)
    rows = [next(batches) for _ in range(8)]
    assert sorted(np.concatenate(rows[:4]).tolist()) == sorted(np.concatenate(rows[4:]).tolist()) == list(range(24))
    drawn = next(row_batches(labels, 600, "balanced", 0))
    # 200 expected of each class, standard deviation sqrt(600 * 1/3 * 2/3) = 11.5: five of them are 58.
    assert np.abs(np.bincount(labels[drawn]) - 200).max() < 58


def test_of_each_class_so_many_images_are_chosen_at_most() -> None:
    labels = np.array([3] * 10 + [1] * 2 + [0] * 5)
    rows = at_most(labels, 4, np.random.default_rng(0))
    assert Counter(labels[rows].tolist()) == {3: 4, 1: 2, 0: 4}
    assert (np.diff(rows) > 0).all()
    assert not np.array_equal(rows, at_most(labels, 4, np.random.default_rng(1)))


def test_chosen_images_stay_where_they_are_and_add_up() -> None:
    images = ImageSet((torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1),), np.arange(5))
    some = images.choose(np.array([1, 3, 4])).choose(np.array([0, 2]))
    assert some.labels.tolist() == [1, 4] and some.parts[0] is images.parts[0]
    both = some + images
    assert both.labels.tolist() == [1, 4, 0, 1, 2, 3, 4]
    assert both.gather(np.array([1, 0, 6])).flatten().tolist() == [4, 1, 4]
    assert (images + some).gather(np.array([5, 6, 0])).flatten().tolist() == [1, 4, 0]


@pytest.mark.parametrize(
    "pin",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
        ),
    ],
)
def test_images_of_several_parts_are_gathered_by_row(pin: bool) -> None:
    one = torch.full((3, 3, 2, 2), 1, dtype=torch.uint8) + torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1)
    empty, other = torch.empty(0, 3, 1, 1, dtype=torch.uint8), torch.full((2, 3, 2, 2), 9, dtype=torch.uint8)
    images = ImageSet((one, empty), np.array([0, 1, 2])) + ImageSet((other,), np.array([3, 3]))
    assert len(images) == 5 and images.labels.tolist() == [0, 1, 2, 3, 3]
    for rows, levels in (([4, 0, 3, 2], [9, 1, 9, 3]), ([2, 0], [3, 1]), ([3, 4], [9, 9])):
        gathered = images.gather(np.array(rows), pin)
        assert gathered.shape == (len(rows), 3, 2, 2) and gathered.dtype == torch.uint8
        assert gathered[:, 2, 1, 1].tolist() == levels
        assert gathered.is_pinned() is pin
