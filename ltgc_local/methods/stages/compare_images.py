"""Leak guard, second half: which generated images are training or test images, and which training images test ones.

Of each image the closest of the other group is kept, by equal pixels, by hash and by embedding, where that is close
enough. Nothing is removed: what a near duplicate is depends on the data, so the report shows the nearest pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltgc_local.evaluation.duplicates import HASH_BITS, closest_by_cosine, closest_by_hash, equal_rows
from ltgc_local.methods.stage import WholeStage
from ltgc_local.recipe.generation import Leaks
from ltgc_local.records import NearPair
from ltgc_local.runs.arrays import read_arrays
from ltgc_local.runs.files import Artefact, Json, Lines
from ltgc_local.runs.generated import read_rows

#: (whose images are looked up, among whose), the gravest first.
PAIRS = (("generated", "test"), ("generated", "train"), ("train", "test"))


@dataclass(frozen=True, eq=False)
class ImageGroup:
    """The fingerprints of one group of N images."""

    name: str
    keys: Sequence[str]
    class_ids: NDArray[np.int64]  # (N,)
    digests: NDArray[np.uint8]  # (N, 16)
    hashes: NDArray[np.uint64]  # (N,)
    embedded: NDArray[np.int64]  # (M,) which images have an embedding
    embeddings: NDArray[Any]  # (M, D), unit rows

    def embedding_of(self, row: int) -> NDArray[np.float32] | None:
        """Return one image's embedding, None if it has none."""
        place = int(np.searchsorted(self.embedded, row))
        if place >= len(self.embedded) or self.embedded[place] != row:
            return None
        embedding: NDArray[np.float32] = self.embeddings[place].astype(np.float32)
        return embedding


class CompareImagesStage(WholeStage):
    """Finds the near pairs between the groups of ``PAIRS``."""

    def make(self) -> list[Artefact]:
        groups = {group.name: group for group in self._read_groups()}
        pairs: list[NearPair] = []
        counts = []
        for query, reference in PAIRS:
            found, count = compare(groups[query], groups[reference], self.recipe.leaks)
            pairs += found
            counts.append(count)
        self.progress.advance()
        return [Lines("pairs", pairs), Json("counts", counts)]

    def _read_groups(self) -> list[ImageGroup]:
        rows = read_rows(self.run.files(self.input("generated"), "images"))
        names = [("generated", ["_".join(map(str, row.key)) for row in rows], np.array([row.class_id for row in rows]))]
        for part in (self.corpus.train, self.corpus.test):
            names.append((part.name, list(part.keys), part.labels))
        groups = []
        for name, keys, class_ids in names:
            step = self.input("generated fingerprints" if name == "generated" else "originals' fingerprints")
            parts = [read_arrays(path) for path in self.run.files(step, name)]
            digests = np.concatenate([np.empty((0, 16), np.uint8), *(part["digest"] for part in parts)])
            hashes = np.concatenate([np.empty(0, np.int64), *(part["hash"] for part in parts)]).view(np.uint64)
            embedded = np.flatnonzero(np.concatenate([np.empty(0, bool), *(part["is_embedded"] for part in parts)]))
            embeddings = [part["embedding"] for part in parts if "embedding" in part]
            joined = np.concatenate(embeddings) if embeddings else np.empty((0, 1), np.float16)
            groups.append(ImageGroup(name, keys, class_ids, digests, hashes, embedded, joined))
        return groups


def compare(queries: ImageGroup, references: ImageGroup, settings: Leaks) -> tuple[list[NearPair], dict[str, Any]]:
    """Return the pairs that are near, the nearest first, and how many images of ``queries`` are in one."""
    num_queries = len(queries.keys)
    equal = by_hash = by_cosine = np.full(num_queries, -1)
    distances, cosines = np.full(num_queries, HASH_BITS + 1), np.full(num_queries, -2.0)
    if num_queries and len(references.keys):
        equal = equal_rows(queries.digests, references.digests)
        by_hash, distances = closest_by_hash(queries.hashes, references.hashes)
    if len(queries.embedded) and len(references.embedded):
        closest, found = closest_by_cosine(queries.embeddings, references.embeddings)
        by_cosine = by_cosine.copy()
        by_cosine[queries.embedded] = references.embedded[closest]
        cosines[queries.embedded] = found
    near = np.stack([equal >= 0, distances <= settings.hash_distance, cosines >= settings.cosine])  # (3, Q)
    others = np.stack([equal, by_hash, by_cosine])  # (3, Q)
    pairs = [
        _pair(queries, int(row), references, other, bool(other == equal[row]))
        for row in np.flatnonzero(near.any(0))
        for other in dict.fromkeys(others[near[:, row], row].tolist())
    ]
    pairs.sort(key=_by_nearness)
    is_compared = num_queries and len(references.keys)
    return pairs, {
        "images": queries.name,
        "among": references.name,
        "num_images": num_queries,
        "num_among": len(references.keys),
        "num_embedded": len(queries.embedded),
        "num_embedded_among": len(references.embedded),
        "equal": int(near[0].sum()),
        "by_hash": int(near[1].sum()),
        "by_embedding": int(near[2].sum()),
        "in_all": int(near.any(0).sum()),
        "closest_hash_distance": int(distances.min()) if is_compared else None,
        "closest_cosine": round(float(cosines.max()), 4) if (by_cosine >= 0).any() else None,
    }


def _by_nearness(pair: NearPair) -> tuple[Any, ...]:
    cosine = -2.0 if pair.cosine is None else pair.cosine
    return not pair.equal, pair.hash_distance, -cosine, pair.image, pair.other


def _pair(queries: ImageGroup, row: int, references: ImageGroup, other: int, equal: bool) -> NearPair:
    left, right = queries.embedding_of(row), references.embedding_of(other)
    return NearPair(
        queries.name,
        queries.keys[row],
        int(queries.class_ids[row]),
        references.name,
        references.keys[other],
        int(references.class_ids[other]),
        equal,
        int(np.bitwise_count(queries.hashes[row] ^ references.hashes[other])),
        None if left is None or right is None else round(float(left @ right), 4),
    )
