"""Leak guard, second half: which generated images are training or test images, and which training images test ones.

Of each image the closest of the other group is kept, by equal pixels, by hash and by embedding, where that is close
enough. Nothing is removed: what a near duplicate is depends on the data, so the report shows the nearest pairs.

A chunk looks up some of one group's images among all of another's. ``pairs`` has its near pairs, the nearest first,
and ``counts`` its numbers; the report adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltgc_local.errors import ArtefactError
from ltgc_local.evaluation.duplicates import HASH_BITS, closest_by_hash, equal_rows
from ltgc_local.evaluation.nearest import NearestSearch
from ltgc_local.methods.stage import ChunkedStage
from ltgc_local.recipe.generation import Leaks
from ltgc_local.records import NearPair
from ltgc_local.runs.arrays import read_arrays
from ltgc_local.runs.disk import redo
from ltgc_local.runs.files import Artefact, Json, Lines
from ltgc_local.runs.generated import read_keys
from ltgc_local.runs.image_keys import KeyNames

#: (whose images are looked up, among whose), the gravest first.
PAIRS = (("generated", "test"), ("generated", "train"), ("train", "test"))
CHUNK = 65_536  # images looked up at once: half a minute to two among half a million

Identify = Callable[[NDArray[np.int64]], list[tuple[str, int]]]  # rows -> keys and class ids


@dataclass(frozen=True)
class Lookup:
    """Images to look up: those in some of a group's files of fingerprints, of the pair of groups ``PAIRS[pair]``."""

    pair: int
    start: int
    end: int  # the file after the last
    num_images: int

    @property
    def num_items(self) -> int:
        return self.num_images


@dataclass(frozen=True, eq=False)
class ImageGroup:
    """The fingerprints of N images of one group.

    Attributes:
        embedded: which images have an embedding, (M,).
        embeddings: unit rows of these, in blocks (M_i, D) in their order, which may be read when asked for.
        identify: rows -> the keys and class ids of these images.
    """

    name: str
    digests: NDArray[np.uint8]  # (N, 16)
    hashes: NDArray[np.uint64]  # (N,)
    embedded: NDArray[np.int64]
    embeddings: Sequence[NDArray[Any]]
    identify: Identify

    def vectors(self, rows: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
        """Return the embeddings of those images that have one, by row."""
        wanted = np.unique(rows)
        places = np.searchsorted(self.embedded, wanted)
        places = places[np.isin(wanted, self.embedded)]
        found: dict[int, NDArray[np.float32]] = {}
        start = 0
        for block in self.embeddings if len(places) else ():
            mine = places[(places >= start) & (places < start + len(block))]
            picked = block[mine - start].astype(np.float32)
            found |= zip(self.embedded[mine].tolist(), picked, strict=True)
            start += len(block)
        return found


class CompareImagesStage(ChunkedStage[Any, Lookup]):
    """Finds the near pairs between the groups of ``PAIRS``."""

    def chunks(self) -> list[Sequence[Lookup]]:
        chunks: list[Sequence[Lookup]] = []
        for pair, (group, _) in enumerate(PAIRS):
            sizes = [len(read_arrays(path)["hash"]) for path in self._files[group]]
            start = 0
            while True:  # a group without images is compared as well: its counts are zero
                end, number = start, 0
                while end < len(sizes) and (not number or number + sizes[end] <= CHUNK):
                    number += sizes[end]
                    end += 1
                chunks.append([Lookup(pair, start, end, number)])
                start = end
                if start == len(sizes):
                    break
        return chunks

    def make_chunk(self, chunk: Sequence[Lookup]) -> list[Artefact]:
        (lookup,) = chunk
        if not 0 <= lookup.pair < len(PAIRS):
            raise ArtefactError(f"{self.run.folder(self.step.name)}: names no pair of groups: {lookup.pair}")
        query, reference = PAIRS[lookup.pair]
        queries = self._read(query, lookup.start, lookup.end)
        pairs, counts = compare(queries, self._references[reference], self.recipe.leaks)
        self.progress.advance(lookup.num_images)
        return [Lines("pairs", pairs), Json("counts", [counts])]

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        originals, generated = self.input("originals' fingerprints"), self.input("generated fingerprints")
        steps = {"generated": generated, "train": originals, "test": originals}
        return {group: self.run.files(step, group) for group, step in steps.items()}

    @cached_property
    def _references(self) -> dict[str, ImageGroup]:
        return {group: self._read(group, 0, len(self._files[group])) for group in ("train", "test")}

    def _read(self, group: str, start: int, end: int) -> ImageGroup:
        """Read the fingerprints in a group's files from ``start`` to ``end``; embeddings when they are asked for."""
        paths = self._files[group][start:end]
        parts = [{name: part for name, part in read_arrays(path).items() if name != "embedding"} for path in paths]
        digests = np.concatenate([np.empty((0, 16), np.uint8), *(part["digest"] for part in parts)])
        hashes = np.concatenate([np.empty(0, np.int64), *(part["hash"] for part in parts)]).view(np.uint64)
        embedded = np.flatnonzero(np.concatenate([np.empty(0, bool), *(part["is_embedded"] for part in parts)]))
        files = [path for path, part in zip(paths, parts, strict=True) if part["is_embedded"].any()]
        if group == "generated":
            ends = np.cumsum([len(part["hash"]) for part in parts])

            def identify(rows: NDArray[np.int64]) -> list[tuple[str, int]]:
                return self._drawn(rows, start, ends)

            return ImageGroup(group, digests, hashes, embedded, Blocks(files), identify)
        part = self.corpus.test if group == "test" else self.corpus.train
        before = sum(len(read_arrays(path)["hash"]) for path in self._files[group][:start])

        def listed(rows: NDArray[np.int64]) -> list[tuple[str, int]]:
            return [(part.keys[before + row], int(part.labels[before + row])) for row in rows.tolist()]

        return ImageGroup(group, digests, hashes, embedded, Blocks(files), listed)

    def _drawn(self, rows: NDArray[np.int64], start: int, ends: NDArray[np.int64]) -> list[tuple[str, int]]:
        """Identify generated images: the n-th file of fingerprints is of the n-th file of images."""
        step = self.input("generated")
        names = self.run.names(step, "images")
        found = []
        for row, number in zip(rows.tolist(), np.searchsorted(ends, rows, side="right").tolist(), strict=True):
            if start + number >= len(names):
                raise ArtefactError(f"{self.run.folder(step)}: has too few images; {redo(self.run.root, step)}")
            keys = _keys_in(self.run.file(f"{step}/{names[start + number]}"))
            place = row - (int(ends[number - 1]) if number else 0)
            found.append((KeyNames(keys)[place], int(keys[place, 0])))
        return found


@lru_cache(maxsize=2)  # rows come in order
def _keys_in(path: Path) -> NDArray[np.int64]:
    return read_keys(path)


@dataclass(frozen=True)
class Blocks(Sequence[NDArray[Any]]):
    """The embeddings in files of fingerprints, read when they are asked for: those of half a million are 450 MB."""

    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: Any) -> Any:
        return read_arrays(self.files[number])["embedding"]


def compare(queries: ImageGroup, references: ImageGroup, settings: Leaks) -> tuple[list[NearPair], dict[str, Any]]:
    """Return the pairs that are near, the nearest first, and how many images of ``queries`` are in one."""
    num_queries, num_references = len(queries.hashes), len(references.hashes)
    equal = by_hash = by_cosine = np.full(num_queries, -1)
    distances, cosines = np.full(num_queries, HASH_BITS + 1), np.full(num_queries, -2.0)
    if num_queries and num_references:
        equal = equal_rows(queries.digests, references.digests)
        by_hash, distances = closest_by_hash(queries.hashes, references.hashes)
    if len(queries.embedded) and len(references.embedded):
        search = NearestSearch(np.concatenate(list(queries.embeddings)), settings.cosine)
        for block in references.embeddings:
            search.add(block)
        by_cosine = by_cosine.copy()
        by_cosine[queries.embedded] = np.where(search.rows < 0, -1, references.embedded[search.rows])
        cosines[queries.embedded] = search.cosines
    near = np.stack([equal >= 0, distances <= settings.hash_distance, cosines >= settings.cosine])  # (3, Q)
    others = np.stack([equal, by_hash, by_cosine])  # (3, Q)
    found = [
        (int(row), other, bool(other == equal[row]))
        for row in np.flatnonzero(near.any(0))
        for other in dict.fromkeys(others[near[:, row], row].tolist())
    ]
    is_compared = num_queries and num_references
    return _pairs(queries, references, found), {
        "images": queries.name,
        "among": references.name,
        "num_images": num_queries,
        "num_among": num_references,
        "num_embedded": len(queries.embedded),
        "num_embedded_among": len(references.embedded),
        "equal": int(near[0].sum()),
        "by_hash": int(near[1].sum()),
        "by_embedding": int(near[2].sum()),
        "in_all": int(near.any(0).sum()),
        "closest_hash_distance": int(distances.min()) if is_compared else None,
        "closest_cosine": round(float(cosines.max()), 4) if (by_cosine >= 0).any() else None,
    }


def _pairs(queries: ImageGroup, references: ImageGroup, found: Sequence[tuple[int, int, bool]]) -> list[NearPair]:
    """Return near pairs, given as rows of both groups and whether they are equal, the nearest first."""
    rows, others = (np.array([each[side] for each in found], np.int64) for side in (0, 1))
    left, right = queries.vectors(rows), references.vectors(others)
    distances = np.bitwise_count(queries.hashes[rows] ^ references.hashes[others]).tolist()
    pairs = [
        NearPair(
            queries.name,
            *image,
            references.name,
            *other_image,
            equal,
            distance,
            round(float(left[row] @ right[other]), 4) if row in left and other in right else None,
        )
        for (row, other, equal), image, other_image, distance in zip(
            found, queries.identify(rows), references.identify(others), distances, strict=True
        )
    ]
    return sorted(pairs, key=lambda pair: pair.nearness)
