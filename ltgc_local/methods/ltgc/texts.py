"""The descriptions: how many each tail class had, wanted and got, and why sentences were not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.records import Rejected
from ltgc_local.runs.directory import RunDirectory

#: How the reasons begin that ``replies`` gives for a line, and the stages for a reply, that is not in the template.
UNPARSABLE = (
    "does not begin with",
    "states no feature",
    "keeps the template's brackets",
    "longer than",
    "empty reply",
    "is cut off",
)


@dataclass(frozen=True)
class ClassTexts:
    """The description list of one tail class: M_y, N_y wanted and reached, and how often Prompt 2 was asked."""

    class_id: int
    name: str
    num_existing: int
    num_wanted: int
    num_extended: int
    num_asks: int
    num_rejected: int
    num_unparsable: int

    @property
    def unparsable_share(self) -> float | None:
        """Of the lines that the language model wrote for the class, percent that is not in the template."""
        lines = self.num_extended + self.num_rejected
        return 100 * self.num_unparsable / lines if lines else None


@dataclass(frozen=True)
class Reason:
    """How often one step refused a sentence for one reason."""

    stage: str
    text: str
    count: int
    unparsable: bool


def is_unparsable(reason: str) -> bool:
    """Return whether a sentence was refused for its form, not for what it says."""
    return reason.startswith(UNPARSABLE)


def read_class_texts(
    run: RunDirectory, class_names: Sequence[str], class_counts: Mapping[int, int], tail: Sequence[int]
) -> tuple[ClassTexts, ...]:
    """Return the lists of the tail classes, the class with most training images first."""
    summary: dict[str, dict[str, int]] = {}
    for of_chunk in run.values("extend", "summary"):
        summary |= of_chunk
    refused: dict[int, list[str]] = {class_id: [] for class_id in tail}
    for rejected in run.records("extend", "rejected", Rejected):
        refused.setdefault(rejected.class_id, []).append(rejected.reason)
    rows = []
    for class_id in sorted(tail, key=lambda c: (-class_counts[c], class_names[c])):
        name, reasons = class_names[class_id], refused[class_id]
        counted = summary.get(name, {"existing": 0, "extended": 0, "missing": 0, "asks": 0})
        wanted = counted["extended"] + counted["missing"]
        unparsable = sum(map(is_unparsable, reasons))
        numbers = (counted["existing"], wanted, counted["extended"], counted["asks"], len(reasons), unparsable)
        rows.append(ClassTexts(class_id, name, *numbers))
    return tuple(rows)


def count_reasons(run: RunDirectory, steps: Sequence[str]) -> tuple[Reason, ...]:
    """Count what describe, extend and refine refused, by step and reason; most frequent first within a step."""
    counts: dict[str, Counter[str]] = {"describe": Counter(), "extend": Counter(), "refine": Counter()}
    for step in steps:
        stage = step.rpartition("/")[2]
        if stage in counts:
            counts[stage].update(r.reason for r in run.records(step, "rejected", Rejected))
    return tuple(
        Reason(stage, text, count, is_unparsable(text))
        for stage, found in counts.items()
        for text, count in found.most_common()
    )
