"""The closest reference of each query by cosine: exact where it matters, without computing most products whole.

The leak guard asks for each image's closest other image only where they are near, and for the closest pair of all.
So a product that is certainly smaller need not be known. With the embeddings turned to their d main directions,

    q . r  <=  q_d . r_d + |q_rest| |r_rest|        (Cauchy and Schwarz)

which is a product of d + 1 numbers instead of 512. The few that this does not rule out are computed whole: in float32
first, and in float64 where these are too close to tell. Of float16 embeddings, as they are stored, the latter is exact,
so blocks, threads and machines change nothing; of equally close references the first counts.

Measured on one core at 512 numbers, in ns a pair: 1 with d = 32, 11 whole, 12 by faiss's IndexFlatIP.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUERY_BLOCK, REFERENCE_BLOCK = 512, 2048  # 4 MiB of products at once
SAMPLE = 1024  # embeddings that decide on the directions
DIRECTIONS = (8, 16, 32, 64, 128, 256)
#: What a pair costs, in units of a multiplication: to be looked at, and to be computed by itself.
LOOK, ALONE = 35, 75_000
MOST_ALONE = 0.005  # of a block; more pairs are computed as a product of matrices
MOST_TIES = 64  # candidates of a query in a block of references
ROUNDING = 1e-4  # of the bound, in float32
PAIRS = 256  # computed by themselves at once

Floats = NDArray[np.float32]


class NearestSearch:
    """The closest references of queries, block after block of references.

    Attributes:
        rows: of each query's closest reference, (Q,); -1 if none is known. Known for certain are references of at least
            the cosine asked for, and the closest of all pairs.
        cosines: with these, (Q,); -2 if none is known.
    """

    def __init__(self, queries: NDArray[np.floating], at_least: float) -> None:
        """Begin a search.

        Args:
            queries: unit rows (Q, D), of any floating type.
            at_least: the cosine from which on the closest reference is wanted.
        """
        self.rows = np.full(len(queries), -1, np.int64)
        self.cosines = np.full(len(queries), -2.0)
        self._queries, self._at_least, self._seen = queries, at_least, 0
        self._basis: Floats | None = None
        self._short = np.empty((0, 0), np.float32)  # the queries in the basis, (Q, d + 1)
        self._error = queries.shape[1] * 2.0**-24  # of a product in float32, in whatever order it is summed

    def add(self, references: NDArray[np.floating]) -> None:
        """Compare the queries with the next references, unit rows (R, D)."""
        for first in range(0, len(references), REFERENCE_BLOCK):
            block = references[first : first + REFERENCE_BLOCK].astype(np.float32)
            if not self._seen:
                self._basis = choose_directions(self._queries, block, self._at_least)
                self._short = shorten(self._queries, self._basis)
            short = shorten(block, self._basis)
            for start in range(0, len(self._queries), QUERY_BLOCK):
                self._compare(slice(start, start + QUERY_BLOCK), block, short)
            self._seen += len(block)

    def _bounds(self, part: slice) -> NDArray[np.float64]:
        """Return the cosine below which a reference of each query is of no interest."""
        overall = self.cosines.max() if len(self.cosines) else -2.0
        bounds: NDArray[np.float64] = np.maximum(self.cosines[part], min(self._at_least, overall))
        return bounds

    def _compare(self, part: slice, block: Floats, short: Floats) -> None:
        bounds = self._bounds(part)
        if self._basis is None:
            self._by_matrix(np.arange(*part.indices(len(self.rows))), block, bounds)
            return
        limits = (bounds - ROUNDING).astype(np.float32)
        is_open = self._short[part] @ short.T > limits[:, None]
        found = np.flatnonzero(is_open)
        if not len(found):
            return
        queries, others = np.divmod(found, len(block))
        if len(found) > MOST_ALONE * is_open.size:
            some = np.unique(queries)
            self._by_matrix(part.start + some, block, bounds[some])
            return
        mine = self._queries[part].astype(np.float32)
        pieces = (slice(i, i + PAIRS) for i in range(0, len(found), PAIRS))
        values = np.concatenate([np.einsum("ij,ij->i", mine[queries[i]], block[others[i]]) for i in pieces])
        starts = np.flatnonzero(np.diff(queries, prepend=-1))
        best = np.repeat(np.maximum.reduceat(values, starts), np.diff(np.append(starts, len(values))))
        close = values >= np.maximum(best - 2 * self._error, bounds[queries] - self._error)
        self._take(part.start + queries[close], others[close], block)

    def _by_matrix(self, places: NDArray[np.int64], block: Floats, bounds: NDArray[np.float64]) -> None:
        values = self._queries[places].astype(np.float32) @ block.T
        limits = np.maximum(values.max(1) - 2 * self._error, bounds - self._error)
        close = values >= limits[:, None].astype(np.float32)
        many = np.flatnonzero(close.sum(1) > MOST_TIES)  # thousands of references that are all but the same image
        for query in many.tolist():
            kept = np.flatnonzero(close[query])[:MOST_TIES]
            close[query] = False
            close[query, kept] = close[query, values[query].argmax()] = True
        queries, others = np.nonzero(close)
        self._take(places[queries], others, block)

    def _take(self, places: NDArray[np.int64], others: NDArray[np.int64], block: Floats) -> None:
        """Compute some pairs exactly, and keep for each query what is closer than all before."""
        for i in range(0, len(places), PAIRS):
            mine, theirs = places[i : i + PAIRS], others[i : i + PAIRS]
            exact = np.einsum("ij,ij->i", self._queries[mine].astype(np.float64), block[theirs].astype(np.float64))
            order = np.lexsort((theirs, -exact, mine))  # by query, the closest first, of equal ones the first
            order = order[np.flatnonzero(np.diff(mine[order], prepend=-1))]
            order = order[exact[order] > self.cosines[mine[order]]]
            self.cosines[mine[order]] = exact[order]
            self.rows[mine[order]] = theirs[order] + self._seen


def choose_directions(queries: NDArray[np.floating], references: Floats, at_least: float) -> Floats | None:
    """Return the directions (D, d) by which pairs are ruled out at least cost; None if whole products cost less."""
    sample, others = (rows[:: -(-len(rows) // SAMPLE) or 1].astype(np.float32) for rows in (queries, references))
    size = references.shape[1]
    if not len(sample) or size <= DIRECTIONS[0]:
        return None
    together = np.concatenate([sample, others]).astype(np.float64)
    directions = np.linalg.eigh(together.T @ together)[1][:, ::-1].astype(np.float32)
    limit = min(at_least, float((sample @ others.T).max())) - ROUNDING
    cheapest, basis = float(LOOK + size), None
    for number in DIRECTIONS:
        if number < size:
            some = np.ascontiguousarray(directions[:, :number])
            kept = float((shorten(sample, some) @ shorten(others, some).T > limit).mean())
            if (cost := LOOK + number + ALONE * kept) < cheapest:
                cheapest, basis = cost, some
    return basis


def shorten(rows: NDArray[np.floating], basis: Floats | None) -> Floats:
    """Return rows (N, D) in the basis with the length of what is left of each, (N, d + 1)."""
    if basis is None:
        return np.empty((len(rows), 0), np.float32)
    found = np.empty((len(rows), basis.shape[1] + 1), np.float32)
    for start in range(0, len(rows), REFERENCE_BLOCK):
        part = rows[start : start + REFERENCE_BLOCK].astype(np.float32)
        inside = part @ basis
        rest = np.einsum("ij,ij->i", part, part) - np.einsum("ij,ij->i", inside, inside)
        found[start : start + len(part), :-1] = inside
        found[start : start + len(part), -1] = np.sqrt(np.maximum(rest, 0) + 1e-6)  # never too short by rounding
    return found
