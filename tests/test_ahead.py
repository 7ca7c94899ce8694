"""Work ahead: in order, never further ahead than asked, and over when nobody asks any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing

import pytest

from ltgc_local.prefetch import BLOCK, map_batches, prefetch


def test_results_come_in_the_order_of_the_items_whichever_is_done_first() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    assert list(prefetch(slow_first, range(20), workers=4, ahead=6)) == [item * item for item in range(20)]
    assert list(prefetch(slow_first, [], workers=4, ahead=6)) == []


def test_no_more_is_begun_than_was_allowed_and_the_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []
    results = prefetch(lambda item: item, (taken.append(i) or i for i in range(100)), workers=2, ahead=3)
    assert taken == []
    for used in range(10):
        assert next(results) == used
        assert len(taken) <= used + 1 + 3
    results.close()
    assert len(taken) <= 13


def test_an_exception_comes_where_its_result_would_have_come() -> None:
    results = prefetch(lambda item: 6 // (2 - item), range(4), workers=2, ahead=4)
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_waits_for_what_runs_and_leaves_no_thread() -> None:
    before = threading.active_count()
    results = prefetch(lambda item: time.sleep(0.01) or item, range(100), workers=4, ahead=8)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before


def test_two_things_are_done_at_once() -> None:
    both = threading.Barrier(2, timeout=5)  # each waits for the other: one after the other it would break
    assert sorted(prefetch(lambda item: both.wait(), range(2), workers=2, ahead=2)) == [0, 1]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_come_whole_and_in_order_in_blocks(device: str) -> None:
    sizes = [1, BLOCK, BLOCK + 1, 3 * BLOCK]
    batches = [list(range(1000 * number, 1000 * number + size)) for number, size in enumerate(sizes)]
    found = list(map_batches(list, batches, workers=3, device=device))
    assert [[item for block in blocks for item in block] for blocks in found] == batches
    assert [len(blocks) for blocks in found] == [1, 1, 2, 3]
    assert list(map_batches(list, [], workers=3, device=device)) == []


@pytest.mark.parametrize(("device", "is_ahead"), [("cpu", False), ("cuda", True)])
def test_only_a_gpu_has_the_next_batch_prepared_while_it_uses_this_one(device: str, is_ahead: bool) -> None:
    begun = threading.Event()

    def prepare(block: Sequence[int]) -> Sequence[int]:
        if block[0] == 1:
            begun.set()
        return block

    with closing(map_batches(prepare, [[0], [1]], workers=1, device=device)) as results:
        next(results)
        assert begun.wait(5 if is_ahead else 0.2) == is_ahead
