"""Duplicates among images: equal pixels, perceptual hashes, and embeddings, in blocks that fit in memory.

The hash is pHash (Zauner 2010): 64 bits that say whether each of the 8x8 lowest frequencies of the 32x32 grey image is
above their median. It is robust to another size, format or quality, but not to crops or mirroring; embeddings are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_SIDE_PX = 32
FREQUENCIES = 8
HASH_BITS = FREQUENCIES * FREQUENCIES
QUERY_BLOCK, REFERENCE_BLOCK = 1024, 16_384  # 64 MiB of float32 products at once
HASH_QUERY_BLOCK, HASH_REFERENCE_BLOCK = 16, 8_192  # 1 MiB fits in the cache: five times as fast as 128 MiB

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]


def pixel_digests(images: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Return 16 bytes (N, 16) of each image's size and pixels as RGB: equal if and only if they look the same."""
    rgb = [image.convert("RGB") for image in images]
    raw = [hashlib.blake2b(repr(image.size).encode() + image.tobytes(), digest_size=16).digest() for image in rgb]
    return np.frombuffer(b"".join(raw), dtype=np.uint8).reshape(-1, 16).copy()


def perceptual_hashes(images: Sequence[Image.Image]) -> Hashes:
    """Return each image's pHash (N,)."""
    side, low = HASH_SIDE_PX, FREQUENCIES
    grey = [image.convert("L").resize((side, side), Image.Resampling.LANCZOS) for image in images]
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image in grey]) if grey else np.empty((0, side, side))
    angles = np.arange(low)[:, None] * (2 * np.arange(side)[None] + 1) * np.pi / (2 * side)
    dct = np.cos(angles).astype(np.float32)  # (8, 32), DCT-II
    frequencies = (dct @ pixels @ dct.T).reshape(len(images), low * low)
    above = frequencies > np.median(frequencies, axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8").astype(np.uint64).reshape(-1)


def equal_rows(queries: NDArray[np.uint8], references: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return for each query the first reference with the same digest, -1 if there is none: (Q,)."""
    first = {references[row].tobytes(): row for row in reversed(range(len(references)))}
    return np.array([first.get(digest.tobytes(), -1) for digest in queries], dtype=np.int64)


def closest_by_hash(queries: Hashes, references: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each query the closest reference and its Hamming distance, 0 to 64: (Q,) and (Q,)."""
    rows = np.zeros(len(queries), dtype=np.int64)
    distances = np.full(len(queries), HASH_BITS + 1, dtype=np.int64)
    for start in range(0, len(queries), HASH_QUERY_BLOCK):
        block = queries[start : start + HASH_QUERY_BLOCK, None]
        for first in range(0, len(references), HASH_REFERENCE_BLOCK):
            bits = np.bitwise_count(block ^ references[None, first : first + HASH_REFERENCE_BLOCK])
            found = bits.min(1)
            closer = np.flatnonzero(found < distances[start : start + len(block)])
            if len(closer):
                rows[start + closer] = bits[closer].argmin(1) + first
                distances[start + closer] = found[closer]
    return rows, distances


def closest_by_cosine(queries: Floats, references: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return for each query the closest reference and their cosine: (Q,) and (Q,).

    Args:
        queries, references: unit rows (Q, D) and (R, D), of any floating type.
    """
    rows = np.zeros(len(queries), dtype=np.int64)
    cosines = np.full(len(queries), -2, dtype=np.float32)
    for first in range(0, len(references), REFERENCE_BLOCK):
        columns = references[first : first + REFERENCE_BLOCK].astype(np.float32).T
        for start in range(0, len(queries), QUERY_BLOCK):
            products = queries[start : start + QUERY_BLOCK].astype(np.float32) @ columns
            part = slice(start, start + len(products))
            best = products.argmax(1)
            found = products[np.arange(len(best)), best]
            closer = found > cosines[part]
            rows[part][closer] = best[closer] + first
            cosines[part][closer] = found[closer]
    return rows, cosines
