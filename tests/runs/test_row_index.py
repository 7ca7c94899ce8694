"""Columns of keys: in order, joined and cut into items, against plain Python on small random data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.image_keys import KeyNames, by_key, match
from ltgc_local.runs.row_index import RowIndex

Table = list[tuple[int, int, int]]
KEYS = st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 2**40), st.integers(0, 2)), max_size=30)


def table(keys: Table) -> np.ndarray:
    return np.array(keys, np.int64).reshape(-1, 3)


def index(files: list[Table]) -> RowIndex:
    return RowIndex.of([Path(f"images-{number}.parquet") for number in range(len(files))], list(map(table, files)))


def places(found: RowIndex) -> list[tuple[int, int, tuple[int, ...]]]:
    return [
        (number, row, tuple(key))
        for number, row, key in zip(found.numbers.tolist(), found.rows.tolist(), found.keys.tolist(), strict=True)
    ]


@given(st.lists(KEYS, max_size=5))
def test_rows_are_sorted_by_key_and_stay_where_they_are(files: list[Table]) -> None:
    rows = [(number, row, key) for number, file in enumerate(files) for row, key in enumerate(file)]
    assert places(index(files)) == rows
    assert places(index(files).sorted()) == sorted(rows, key=lambda row: row[2])  # both are stable


@given(st.lists(KEYS, max_size=4), st.lists(KEYS, max_size=4))
def test_joined_rows_are_those_of_all_files(one: list[Table], two: list[Table]) -> None:
    joined = RowIndex.joined([index(one), index(two)])
    assert len(joined.files) == len(one) + len(two)
    assert places(joined) == places(index(one + two))


@given(st.lists(KEYS, max_size=5), st.integers(1, 9))
def test_items_name_each_row_once(files: list[Table], size: int) -> None:
    found = index(files).sorted()
    parts = found.parts(size)
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    named = [(item.path, row) for part in parts for item in part.items() for row in item.rows]
    assert sorted(named) == sorted((found.files[n], row) for n, row, _ in places(found))
    assert all(len({item.path for item in part.items()}) == len(part.items()) for part in parts)
    classes = [part.keys[:, 0].tolist() for part in found.by_class()]
    assert [set(each) for each in classes] == [{c} for c in sorted(set(found.keys[:, 0].tolist()))]


@given(KEYS, st.data())
def test_a_key_is_found_where_it_is_last(keys: Table, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from(keys), max_size=9)) if keys else []
    last = {key: place for place, key in enumerate(keys)}
    assert match(table(keys), table(wanted)).tolist() == [last[key] for key in wanted]


def test_a_key_that_is_missing_is_named() -> None:
    found = index([[(1, 0, 0), (1, 2, 0)]])
    with pytest.raises(ArtefactError, match=r"image \(1, 1\) is missing"):
        found.find(np.array([[1, 0], [1, 1]]))
    with pytest.raises(LookupError, match="too large"):
        match(table([(0, 0, 0), (2**62, 2**62, 2**62)]), table([(0, 0, 0)]))
    assert len(match(table([]), table([]))) == 0
    with pytest.raises(LookupError):
        match(table([]), table([(0, 0, 0)]))


def test_names_are_made_when_they_are_asked_for() -> None:
    names = KeyNames(table([(1, 22, 0), (3, 4, 5)]))
    assert (len(names), names[-1], list(names), list(names[:1])) == (2, "3_4_5", ["1_22_0", "3_4_5"], ["1_22_0"])
    assert by_key(names.keys).tolist() == [0, 1]
