"""The iterative evaluation: what CLIP made of the images, round by round and class by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.recipe import Recipe
from ltgc_local.records import Acceptance, ClassTemplate, Score


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
    failed: dict[str, int]  # scorer -> images that it refused, of all rounds; one image may fail several
    threshold: float | None  # cosine; None where no image of the class was scored, or the rank alone decides
    template: str  # C_y
    fallback: bool

    @property
    def total(self) -> Round:
        """Descriptions drawn at all and those whose image was accepted in some round."""
        return Round(self.rounds[0].drawn if self.rounds else 0, sum(each.accepted for each in self.rounds))


def count_acceptance(
    scores: Sequence[Score | Acceptance],
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
    by_class = {template.class_id: template for template in templates}
    return tuple(
        ClassAcceptance(
            class_id,
            class_names[class_id],
            tuple(Round(drawn[class_id, r], accepted[class_id, r]) for r in range(num_rounds)),
            excluded.get(class_id, 0),
            dict(failed[class_id]),
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
    if recipe.draws_by_diffusion:
        return _describe_test(recipe)
    settings = recipe.assess
    rules = {
        "offset": f"cosine + 0.5 with the template is at least μ = {settings.threshold:g}",
        "cosine": f"the cosine S with the template is at least μ = {settings.threshold:g}",
        "percentile": "the cosine S with the template is at least "
        f"percentile {settings.percentile:g} of those of the class's own training photographs",
        "margin": f"the template is among the {settings.margin_rank} closest of all classes'",
    }
    return ", and ".join(rules[name] for name in settings.scorer.split("+"))


def _describe_test(recipe: Recipe) -> str:
    settings = recipe.diffusion
    by_clip = "CLIP finds its class's prompt the closest of all classes'"
    by_network = f"the tail network gives its class at least {settings.accept_probability:g} among the tail classes"
    rules = {"clip": by_clip, "tail_network": by_network, "either": f"{by_clip}, or {by_network}", "none": ""}
    return rules[settings.accept]


def describe_score(score: Score | Acceptance, recipe: Recipe) -> str:
    """Say in which round an image was drawn and what was measured of it, in lines short enough for a caption."""
    place = f"round {score.round}"
    if isinstance(score, Acceptance):
        ranked = [] if score.rank is None else [f"CLIP rank {score.rank}"]
        likely = [] if score.probability is None else [f"tail network {score.probability:.2f}"]
        return "\n".join([place, *ranked, *likely])
    if score.cosine is None:
        return f"{place}\nCLIP gave no number"
    if "margin" in recipe.assess.scorer or score.threshold is None:
        place += f", rank {score.rank}"
        place += f" > {recipe.assess.margin_rank}" if "margin" in score.failed else ""
    if score.threshold is None:
        return place
    sign = "<" if set(score.failed) - {"margin"} else "≥"
    close = f"{score.cosine:.3f}" == f"{score.threshold:.3f}"
    digits = 5 if close else 3
    return f"{place}\nS {score.cosine:.{digits}f} {sign} {score.threshold:.{digits}f}"
