"""The iterative evaluation: what CLIP made of the images, round by round and class by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.recipe import Recipe
from ltgc_local.records import ClassTemplate, Score


@dataclass(frozen=True)
class Round:
    """Images drawn and accepted in one round."""

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
    threshold: float | None  # None where no image of the class was scored
    template: str  # C_y
    fallback: bool

    @property
    def total(self) -> Round:
        """Descriptions drawn at all and those whose image was accepted in some round."""
        return Round(self.rounds[0].drawn if self.rounds else 0, sum(each.accepted for each in self.rounds))


def count_acceptance(
    scores: Sequence[Score],
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
    by_class = {template.class_id: template for template in templates}
    return tuple(
        ClassAcceptance(
            class_id,
            class_names[class_id],
            tuple(Round(drawn[class_id, r], accepted[class_id, r]) for r in range(num_rounds)),
            excluded.get(class_id, 0),
            thresholds.get(class_id),
            by_class[class_id].text if class_id in by_class else "",
            class_id in by_class and by_class[class_id].fallback,
        )
        for class_id in tail
    )


def sum_rounds(classes: Sequence[ClassAcceptance]) -> tuple[Round, ...]:
    """Add up the classes, round by round."""
    per_round = zip(*(each.rounds for each in classes), strict=True)
    return tuple(Round(sum(r.drawn for r in rounds), sum(r.accepted for r in rounds)) for rounds in per_round)


def describe_scorer(recipe: Recipe) -> str:
    """Say in words what an image must do to be accepted."""
    settings = recipe.assess
    rule = {
        "offset": f"S = cosine + 0.5 with the template is at least μ = {settings.threshold:g}",
        "cosine": f"S = cosine with the template is at least μ = {settings.threshold:g}",
        "percentile": "S = cosine with the template is at least μ, "
        f"percentile {settings.percentile:g} of those of the class's own training photographs",
        "margin": f"the template is among the {settings.margin_rank} closest of all classes'",
    }[settings.scorer]
    if settings.require_rank is not None:
        rule += f", and the template is among the {settings.require_rank} closest of all classes'"
    return rule


def describe_score(score: Score, recipe: Recipe) -> str:
    """Say in which round an image was drawn and what CLIP measured of it, in lines short enough for a caption."""
    settings, place = recipe.assess, f"round {score.round}"
    if settings.scorer == "margin" or settings.require_rank is not None:
        place += f", rank {score.rank}"
    if settings.scorer == "margin":
        return place
    sign = "≥" if score.score >= score.threshold else "<"
    return f"{place}\nS {score.score:.3f} {sign} {score.threshold:.3f}"
