"""Work ahead: in order, never further ahead than asked, and over when nobody asks any more."""

from __future__ import annotations

import threading
import time

import pytest

from ltgc_local.ahead import map_ahead


def test_results_come_in_the_order_of_the_items_whichever_is_done_first() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    assert list(map_ahead(slow_first, range(20), workers=4, ahead=6)) == [item * item for item in range(20)]
    assert list(map_ahead(slow_first, [], workers=4, ahead=6)) == []


def test_no_more_is_begun_than_was_allowed_and_the_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []
    results = map_ahead(lambda item: item, (taken.append(i) or i for i in range(100)), workers=2, ahead=3)
    assert taken == []
    for used in range(10):
        assert next(results) == used
        assert len(taken) <= used + 1 + 3
    results.close()
    assert len(taken) <= 13


def test_an_exception_comes_where_its_result_would_have_come() -> None:
    results = map_ahead(lambda item: 6 // (2 - item), range(4), workers=2, ahead=4)
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_waits_for_what_runs_and_leaves_no_thread() -> None:
    before = threading.active_count()
    results = map_ahead(lambda item: time.sleep(0.01) or item, range(100), workers=4, ahead=8)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before


def test_two_things_are_done_at_once() -> None:
    both = threading.Barrier(2, timeout=5)  # each waits for the other: one after the other it would break
    assert sorted(map_ahead(lambda item: both.wait(), range(2), workers=2, ahead=2)) == [0, 1]
