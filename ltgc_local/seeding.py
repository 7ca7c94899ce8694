"""Seeds by name, not by order: an item's seed does not depend on shards, batches, workers or resumption."""

from __future__ import annotations

import hashlib


def item_seed(run_seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2^63) for the item that ``names`` identify, e.g. ("draw", class, description, round)."""
    text = "/".join(str(part) for part in (run_seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
