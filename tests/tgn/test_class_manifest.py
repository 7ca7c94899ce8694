"""Head and tail by rank of training counts, and the numbering that every step uses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.errors import DataError, RecipeError
from ltgc_local.methods.tgn.classes import build_manifest
from ltgc_local.recipe.tgn import Split

NAMES = ("ship", "bridge", "dam", "airport", "vehicle")
COUNTS = {0: 900, 1: 30, 2: 5, 3: 30, 4: 400}


@pytest.mark.parametrize(
    ("num_classes", "percent", "num_head"),
    [(20, 40, 8), (23, 33, 7), (23, 40, 9), (15, 40, 6), (15, 33, 4)],  # int(C * percent / 100), DIOR's and FGSC's
)
def test_the_head_is_a_rounded_down_share_of_the_classes(num_classes: int, percent: float, num_head: int) -> None:
    names, counts = [f"class {i}" for i in range(num_classes)], {i: 10 + i for i in range(num_classes)}
    manifest = build_manifest(names, counts, Split(head_percent=float(percent)))
    assert (len(manifest.head), len(manifest.tail)) == (num_head, num_classes - num_head)
    assert min(e.num_train for e in manifest.head) > max(e.num_train for e in manifest.tail)


def test_indices_follow_the_rank_and_equal_counts_the_class_id() -> None:
    manifest = build_manifest(NAMES, COUNTS, Split(head_percent=40.0))
    assert [(e.class_id, e.index) for e in manifest.head] == [(0, 0), (4, 1)]
    assert [(e.class_id, e.index) for e in manifest.tail] == [(1, 0), (3, 1), (2, 2)]
    assert [entry.class_id for entry in manifest.tail] == [1, 3, 2]
    assert [e.prompt for e in manifest.tail] == ["A photo of a bridge", "A photo of a airport", "A photo of a dam"]


def test_the_prompt_is_the_recipes() -> None:
    manifest = build_manifest(NAMES, COUNTS, Split(prompt="a satellite photo of a {}, from above"))
    assert manifest.head[0].prompt == "a satellite photo of a ship, from above"


@pytest.mark.parametrize("text", ["dam, Bridge", "2,1", " 1 , dam ,"])
def test_the_head_can_be_named_by_names_or_ids(text: str) -> None:
    manifest = build_manifest(NAMES, COUNTS, Split(head_classes=text))
    assert {e.class_name for e in manifest.head} == {"dam", "bridge"}
    assert [e.class_name for e in manifest.tail] == ["ship", "vehicle", "airport"]


def test_a_class_that_is_not_there_is_a_recipe_error_with_what_was_meant() -> None:
    with pytest.raises(RecipeError, match=r"no class is called 'vehicel'; did you mean 'vehicle'\?"):
        build_manifest(NAMES, COUNTS, Split(head_classes="ship, vehicel"))


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        (COUNTS | {2: 0}, Split(), r"1 classes have no training image \(dam\)"),
        (COUNTS, Split(head_percent=10.0), "none is left for the head"),
        (COUNTS, Split(head_classes="0,1,2,3,4"), "none is left for the tail"),
    ],
)
def test_degenerate_splits_are_data_errors(counts: dict[int, int], settings: Split, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build_manifest(NAMES, counts, settings)


@given(st.lists(st.integers(1, 50), min_size=3, max_size=40), st.floats(34, 90))
def test_every_class_is_on_one_side_with_an_index_of_its_own(numbers: list[int], percent: float) -> None:
    counts = dict(enumerate(numbers))
    manifest = build_manifest([f"c{i}" for i in counts], counts, Split(head_percent=percent))
    for side in (manifest.head, manifest.tail):
        assert [entry.index for entry in side] == list(range(len(side)))
    assert sorted(e.class_id for e in (*manifest.head, *manifest.tail)) == list(counts)
    assert {e.class_id: e.num_train for e in manifest.entries} == counts
