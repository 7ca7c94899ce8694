"""The pruned search for the closest embedding, against all products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltgc_local.evaluation import nearest
from ltgc_local.evaluation.nearest import NearestSearch, choose_directions, shorten


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length 1, as they are stored."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def alike(rng: np.random.Generator, number: int, size: int) -> np.ndarray:
    """Return embeddings as a CLIP's: near each other, and most of all along a few directions."""
    return unit(0.15 + rng.normal(size=(number, size)) * (1 + np.arange(size)) ** -0.5)


def search(queries: np.ndarray, references: np.ndarray, at_least: float, block: int) -> NearestSearch:
    found = NearestSearch(queries, at_least)
    for start in range(0, len(references), block):
        found.add(references[start : start + block])
    return found


def check(queries: np.ndarray, references: np.ndarray, at_least: float, block: int) -> NearestSearch:
    """Compare with all products in float64, in which those of float16 numbers are exact."""
    products = queries.astype(np.float64) @ references.astype(np.float64).T
    found = search(queries, references, at_least, block)
    near = products.max(1) >= at_least
    assert found.rows[near].tolist() == products.argmax(1)[near].tolist()  # of equal ones the first
    assert (found.cosines[near] == products.max(1)[near]).all()
    assert (found.cosines[~near] < at_least).all()
    assert found.cosines.max() == products.max()
    return found


@given(st.integers(0, 2**32), st.sampled_from([0.2, 0.7, 0.97, 1.0]), st.sampled_from([1, 13, 64, 1000]))
def test_the_closest_is_that_of_all_products_whatever_the_blocks(seed: int, at_least: float, block: int) -> None:
    rng = np.random.default_rng(seed)
    references = alike(rng, 90, 40)
    references[60:70] = references[:10]  # equal ones
    queries = np.concatenate([alike(rng, 30, 40), references[rng.integers(0, 90, 20)]])
    check(queries, references, at_least, block)


@pytest.mark.parametrize("at_least", [0.9, 0.99])
def test_most_pairs_are_ruled_out_by_a_few_directions(at_least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    references, queries = alike(rng, 5000, 256), alike(rng, 700, 256)
    queries[5] = references[4321]
    whole: list[int] = []
    by_matrix = NearestSearch._by_matrix

    def counted(self: NearestSearch, places: np.ndarray, *more: np.ndarray) -> None:
        whole.append(len(places))
        by_matrix(self, places, *more)

    monkeypatch.setattr(NearestSearch, "_by_matrix", counted)
    found = check(queries, references, at_least, 2048)
    assert found.rows[5] == 4321
    assert found._basis is not None and found._basis.shape[1] <= 128
    assert sum(whole) < 3 * len(queries) / 2, "but for the first block, where nothing is known yet"


def test_embeddings_without_main_directions_are_compared_whole() -> None:
    rng = np.random.default_rng(0)
    one, other = unit(rng.normal(size=(60, 16))), unit(rng.normal(size=(80, 16)))
    assert choose_directions(one, other.astype(np.float32), 0.3) is None
    check(one, other, 0.3, 1000)


def test_thousands_of_all_but_equal_references_cost_no_more_than_their_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    references = np.repeat(alike(rng, 1, 64), 3000, axis=0)
    references[::7] = alike(rng, 1, 64)
    taken: list[int] = []
    take = NearestSearch._take

    def counted(self: NearestSearch, places: np.ndarray, *more: np.ndarray) -> None:
        taken.append(len(places))
        take(self, places, *more)

    monkeypatch.setattr(NearestSearch, "_take", counted)
    check(references[:50].copy(), references, 0.5, 1000)
    assert max(taken) <= 50 * (nearest.MOST_TIES + 1)


@given(st.integers(0, 2**32))
def test_the_short_product_is_never_below_the_whole_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = alike(rng, 20, 48), alike(rng, 30, 48)
    basis = np.linalg.qr(rng.normal(size=(48, 8)))[0].astype(np.float32)
    whole = one.astype(np.float64) @ other.astype(np.float64).T
    assert (shorten(one, basis) @ shorten(other, basis).T >= whole - nearest.ROUNDING).all()


def test_no_query_and_no_reference() -> None:
    empty = np.empty((0, 8), np.float16)
    rows = alike(np.random.default_rng(0), 3, 8)
    assert search(rows, empty, 0.5, 10).rows.tolist() == [-1, -1, -1]
    assert len(search(empty, rows, 0.5, 10).rows) == 0
