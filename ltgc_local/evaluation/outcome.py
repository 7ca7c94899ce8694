"""What an interval says about a difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Outcome = Literal["better", "unclear", "worse"]


def outcome_of(points: float, interval: Sequence[float] | None) -> Outcome:
    """Return whether a difference is surely above 0, surely below it, or neither; without an interval nothing is."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "unclear"
    return "better" if points > 0 else "worse"
