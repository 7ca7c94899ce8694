"""Statistics of the descriptions: how many each tail class had, wanted and got, and why sentences were rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ltgc_local.records import Rejected
from ltgc_local.runs.directory import RunDirectory

#: Beginnings of the reasons that ``replies`` and the stages give for text that is not in the template.
UNPARSABLE = (
    "does not begin with",
    "states no feature",
    "keeps the template's brackets",
    "longer than",
    "empty reply",
    "is cut off",
)


def is_unparsable(reason: str) -> bool:
    """Return whether a sentence was rejected for its form, not for what it says."""
    return reason.startswith(UNPARSABLE)


def read_class_texts(
    run: RunDirectory, class_names: Sequence[str], class_counts: Mapping[int, int], tail: Sequence[int]
) -> list[dict[str, Any]]:
    """Return facts about the list of each tail class, the class with the most training images first.

    They are M_y (``num_existing``), N_y wanted and reached (``num_wanted``, ``num_extended``), how often Prompt 2 was
    asked, and the lines that were rejected or, with their percentage of all lines, not in the template.
    """
    summary = {name: counted for chunk in run.values("extend", "summary") for name, counted in chunk.items()}
    rejected: Counter[tuple[int, bool]] = Counter(
        (record.class_id, is_unparsable(record.reason)) for record in run.iterate("extend", "rejected", Rejected)
    )
    rows = []
    for class_id in sorted(tail, key=lambda c: (-class_counts[c], class_names[c])):
        name, num_unparsable = class_names[class_id], rejected[class_id, True]
        num_rejected = num_unparsable + rejected[class_id, False]
        counted = summary.get(name, {"existing": 0, "extended": 0, "missing": 0, "asks": 0})
        num_lines = counted["extended"] + num_rejected
        rows.append(
            {
                "class_id": class_id,
                "name": name,
                "num_existing": counted["existing"],
                "num_wanted": counted["extended"] + counted["missing"],
                "num_extended": counted["extended"],
                "num_asks": counted["asks"],
                "num_rejected": num_rejected,
                "num_unparsable": num_unparsable,
                "unparsable_share": 100 * num_unparsable / num_lines if num_lines else None,
            }
        )
    return rows


def count_reasons(run: RunDirectory, steps: Sequence[str]) -> list[dict[str, Any]]:
    """Count the sentences that describe, extend and refine rejected, by step and reason, most frequent first."""
    counts: dict[str, Counter[str]] = {"describe": Counter(), "extend": Counter(), "refine": Counter()}
    for step in steps:
        stage = step.rpartition("/")[2]
        if stage in counts:
            counts[stage].update(r.reason for r in run.iterate(step, "rejected", Rejected))
    return [
        {"stage": stage, "text": text, "count": count, "unparsable": is_unparsable(text)}
        for stage, found in counts.items()
        for text, count in found.most_common()
    ]
