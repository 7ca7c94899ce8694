"""The iterative evaluation: how many images were accepted, by round and by class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltgc_local.records import ClassTemplate
from ltgc_local.runs.image_keys import as_numbers
from ltgc_local.runs.judgements import Judgements


@dataclass(frozen=True)
class Round:
    """Images generated and accepted in one round."""

    drawn: int
    accepted: int

    @property
    def rate(self) -> float | None:
        return 100 * self.accepted / self.drawn if self.drawn else None


@dataclass(frozen=True)
class ClassAcceptance:
    """One class's rounds, what was excluded after the last, and what its images were compared with."""

    class_id: int
    name: str
    rounds: tuple[Round, ...]
    num_excluded: int
    failed: dict[str, int]  # scorer -> images it refused, over all rounds; one image may fail several
    threshold: float | None  # cosine; None if no image of the class was scored, or the rank alone decides
    template: str  # C_y
    fallback: bool

    @property
    def total(self) -> Round:
        """Descriptions that had an image generated, and those with an image accepted in some round."""
        return Round(self.rounds[0].drawn if self.rounds else 0, sum(each.accepted for each in self.rounds))


def count_acceptance(
    judged: Judgements,
    templates: Sequence[ClassTemplate],
    excluded: Mapping[int, int],
    class_names: Sequence[str],
    tail: Sequence[int],
) -> tuple[ClassAcceptance, ...]:
    """Count the judgements by class and round; classes in the order of ``tail``."""
    classes, rounds = judged.keys[:, 0], judged.keys[:, 2]
    num_rounds = int(rounds.max(initial=-1)) + 1
    drawn = _count(judged.keys[:, [0, 2]])
    accepted = _count(judged.keys[judged.accepted][:, [0, 2]])
    ids, from_behind = np.unique(classes[::-1], return_index=True)
    last = dict(zip(ids.tolist(), judged.thresholds[::-1][from_behind].tolist(), strict=True))
    thresholds = {class_id: None if math.isnan(value) else value for class_id, value in last.items()}
    failed: dict[int, Counter[str]] = {class_id: Counter() for class_id in tail}
    for (class_id, kind), number in _count(np.stack([classes, judged.failed], axis=1)).items():
        failed[class_id].update(dict.fromkeys(judged.kinds[kind], number))
    texts = {template.class_id: (template.text, template.fallback) for template in templates}
    return tuple(
        ClassAcceptance(
            c,
            class_names[c],
            tuple(Round(drawn[c, r], accepted[c, r]) for r in range(num_rounds)),
            excluded.get(c, 0),
            dict(failed[c]),
            thresholds.get(c),
            *texts.get(c, ("", False)),
        )
        for c in tail
    )


def _count(pairs: NDArray[np.int64]) -> Counter[tuple[int, ...]]:
    """Count pairs (N, 2), in the order in which they first come."""
    _, first, numbers = np.unique(as_numbers(pairs)[0], return_index=True, return_counts=True)
    order = np.argsort(first)
    return Counter(dict(zip(map(tuple, pairs[first[order]].tolist()), numbers[order].tolist(), strict=True)))


def sum_rounds(classes: Sequence[ClassAcceptance]) -> tuple[Round, ...]:
    """Add up the classes, round by round."""
    per_round = zip(*(each.rounds for each in classes), strict=True)
    return tuple(Round(sum(r.drawn for r in rounds), sum(r.accepted for r in rounds)) for rounds in per_round)
