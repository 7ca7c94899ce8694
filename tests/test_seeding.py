"""Seeds are names' seeds: the same on every machine, whatever the order."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.seeding import item_seed

NAMES = st.lists(st.text("abc0123456789_", min_size=1) | st.integers(0, 9999), max_size=4)


def test_a_seed_never_changes_because_runs_are_made_again_from_it() -> None:
    # sha256("0/draw/7/3/0"), its first 8 bytes as a big-endian number, without its lowest bit.
    assert item_seed(0, "draw", 7, 3, 0) == int(hashlib.sha256(b"0/draw/7/3/0").hexdigest()[:16], 16) // 2
    assert item_seed(0, "draw", 7, 3, 0) == 5973669564383182314


def test_seeds_do_not_depend_on_what_was_asked_before() -> None:
    keys = [(class_id, number) for class_id in range(5) for number in range(5)]
    forwards = {key: item_seed(1, *key) for key in keys}
    backwards = {key: item_seed(1, *key) for key in reversed(keys)}
    assert forwards == backwards
    assert len(set(forwards.values())) == 25


def test_the_run_seed_and_every_part_of_the_name_count() -> None:
    seeds = [item_seed(0, "draw", 1, 2), item_seed(1, "draw", 1, 2), item_seed(0, "train", 1, 2)]
    seeds += [item_seed(0, "draw", 2, 1), item_seed(0, "draw", 12), item_seed(0, "draw", 1, 2, 0)]
    assert len(set(seeds)) == 6


@given(st.integers(0, 2**63 - 1), NAMES)
def test_seeds_fit_torch_and_numpy(run_seed: int, names: list[str | int]) -> None:
    assert 0 <= item_seed(run_seed, *names) < 2**63
