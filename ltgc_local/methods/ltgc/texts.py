"""Statistics of the descriptions: how many each tail class had, wanted and got, and why sentences were rejected."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
        """The percentage of the language model's lines for the class that are not in the template."""
        lines = self.num_extended + self.num_rejected
        return 100 * self.num_unparsable / lines if lines else None


@dataclass(frozen=True)
class Reason:
    """How often one step rejected a sentence for one reason."""

    stage: str
    text: str
    count: int
    unparsable: bool


def is_unparsable(reason: str) -> bool:
    """Return whether a sentence was rejected for its form, not for what it says."""
    return reason.startswith(UNPARSABLE)


def read_class_texts(
    run: RunDirectory, class_names: Sequence[str], class_counts: Mapping[int, int], tail: Sequence[int]
) -> tuple[ClassTexts, ...]:
    """Return the lists of the tail classes, the class with the most training images first."""
    summary = {name: counted for chunk in run.values("extend", "summary") for name, counted in chunk.items()}
    rejected: defaultdict[int, list[str]] = defaultdict(list)
    for record in run.records("extend", "rejected", Rejected):
        rejected[record.class_id].append(record.reason)
    rows = []
    for class_id in sorted(tail, key=lambda c: (-class_counts[c], class_names[c])):
        name, reasons = class_names[class_id], rejected[class_id]
        counted = summary.get(name, {"existing": 0, "extended": 0, "missing": 0, "asks": 0})
        wanted = counted["extended"] + counted["missing"]
        unparsable = sum(map(is_unparsable, reasons))
        numbers = (counted["existing"], wanted, counted["extended"], counted["asks"], len(reasons), unparsable)
        rows.append(ClassTexts(class_id, name, *numbers))
    return tuple(rows)


def count_reasons(run: RunDirectory, steps: Sequence[str]) -> tuple[Reason, ...]:
    """Count the sentences that describe, extend and refine rejected, by step and reason, most frequent first."""
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
