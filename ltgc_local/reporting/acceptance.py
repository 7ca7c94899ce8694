"""The iterative evaluation: how many images were accepted, by round and by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.records import ClassTemplate
from ltgc_local.reporting.method_report import Judged


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
    scores: Sequence[Judged],
    templates: Sequence[ClassTemplate],
    excluded: Mapping[int, int],
    class_names: Sequence[str],
    tail: Sequence[int],
) -> tuple[ClassAcceptance, ...]:
    """Count the scores by class and round; classes in the order of ``tail``."""
    num_rounds = max((score.round for score in scores), default=-1) + 1
    drawn = Counter((score.class_id, score.round) for score in scores)
    accepted = Counter((score.class_id, score.round) for score in scores if score.accepted)
    thresholds = {score.class_id: score.threshold for score in scores}
    failed: dict[int, Counter[str]] = {class_id: Counter() for class_id in tail}
    for score in scores:
        failed[score.class_id].update(score.failed)
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


def sum_rounds(classes: Sequence[ClassAcceptance]) -> tuple[Round, ...]:
    """Add up the classes, round by round."""
    per_round = zip(*(each.rounds for each in classes), strict=True)
    return tuple(Round(sum(r.drawn for r in rounds), sum(r.accepted for r in rounds)) for rounds in per_round)
