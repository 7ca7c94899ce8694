"""The run's result in words, from its numbers alone: how the method compares with its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.evaluation.outcome import Outcome, outcome_of
from ltgc_local.reporting.accuracy import Arm, Group, subtract
from ltgc_local.reporting.method_report import MethodReport
from ltgc_local.reporting.rivals import Rivalry

#: Groups from the rarest on -> where the verdict is, and what it calls their images. The first that exists is used.
RAREST = {
    "tail": ("On the tail classes", "tail"),
    "few": ("On the rare classes", "few-shot"),
    "medium": ("On the rarest classes there are, medium-shot", "medium-shot"),
    "many": ("There are no rare classes; on those there are", "many-shot"),
    "all": ("There are no rare classes; on those there are", "test"),
}
#: What the verdict calls the classes of a group of frequent ones.
IN_WORDS = {"many": "many-shot classes", "head": "head classes"}
#: Said when rare classes gain what frequent ones lose.
PRIOR = (
    "A gain on rare classes together with a loss on frequent ones can be a shift of the class prior, which needs no "
    "generated images: compare with a control that adjusts the prior, such as logit adjustment."
)


@dataclass(frozen=True)
class Difference:
    """One arm minus another on one group, in points; ``interval`` is paired by test image, None if unknown."""

    group: str
    points: float
    before: float
    after: float
    interval: tuple[float, float] | None = None

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.points, self.interval)

    def __str__(self) -> str:
        return f"{signed(self.points)} points"


@dataclass(frozen=True)
class Verdict:
    """A headline, the sentences that qualify it, and the differences that both are based on."""

    outcome: Outcome | None  # on the rarest group; None if there is no control to compare with
    headline: str
    sentences: tuple[str, ...]
    caveat: str
    differences: Mapping[str, Difference]


def compare(arms: Sequence[Arm], groups: Sequence[Group], one: str, other: str = "control") -> dict[str, Difference]:
    """Return ``one`` minus ``other`` by group, for every group that both were measured on."""
    found = {arm.name: arm for arm in arms}
    if one not in found or other not in found:
        return {}
    differences = {}
    for group in (group.name for group in groups):
        after, before = found[one].by_group[group], found[other].by_group[group]
        if after is not None and before is not None:
            interval = found[one].minus_control.get(group) if other == "control" else None
            differences[group] = Difference(group, after - before, before, after, interval)
    return differences


def write_verdict(
    arms: Sequence[Arm],
    groups: Sequence[Group],
    num_generated: int,
    method: MethodReport,
    title: str,
    rivalry: Rivalry | None = None,
) -> Verdict:
    """Say how far the method differs from its control, and whether the test images can tell them apart.

    Args:
        rivalry: the method against all its rivals where both do as well on frequent classes, which then decides.
    """
    differences = compare(arms, groups, method.name)
    if not differences:
        return _without_control(arms, groups, method)
    rarest = next(differences[name] for name in RAREST if name in differences)
    sentences = []
    decided = None if rivalry is None else _by_curves(rivalry, title)
    if decided is not None:
        sentences += [f"As trained, it gets {rarest.after:.1f} % of them right and its control {rarest.before:.1f} %."]
    if num_generated == 0:
        sentences.append(f"No generated image was accepted: {title} had nothing to train on but the originals.")
    head, classes = ("head", "head classes") if rarest.group == "tail" else ("many", "many-shot classes")
    if rarest.group != "many" and (frequent := differences.get(head)):
        changes = {"better": "gains as well", "worse": "loses", "unclear": "neither gains nor loses measurably"}
        sentences.append(
            f"The head {changes[frequent.outcome]}: accuracy on {classes} goes from {frequent.before:.1f} to "
            f"{frequent.after:.1f} % ({frequent})."
        )
        if (rarest.outcome, frequent.outcome) == ("better", "worse") and decided is None:
            sentences.append(PRIOR)
    if rarest.group not in ("tail", "medium") and (medium := differences.get("medium")):
        sentences.append(f"On medium-shot classes the difference is {medium}.")
    if rarest.group != "all" and (overall := differences.get("all")):
        sentences.append(
            f"Over all test images, the two cannot be told apart ({overall})."
            if overall.outcome == "unclear"
            else f"Over all test images, {title} is {overall.outcome} by {abs(overall.points):.1f} points "
            f"({overall.after:.1f} %)."
        )
    sentences += _behind_zero_shot(arms, rarest.group, method.name, title)
    caveat = (
        "This is one seed. The intervals cover the choice of test images only, paired image by image; the spread over "
        "seeds comes on top, and --seeds 3 measures it."
    )
    if decided is not None:
        return Verdict(decided[0], decided[1], tuple(sentences), caveat, differences)
    where, images = RAREST[rarest.group]
    what = {"better": "does better than", "worse": "does worse than", "unclear": "cannot be told apart from"}
    headline = (
        f"{where}, {title} {what[rarest.outcome]} its control without generated images: it gets {rarest.after:.1f} % "
        f"of the {images} images right, the control {rarest.before:.1f} % ({rarest})."
    )
    return Verdict(rarest.outcome, headline, tuple(sentences), caveat, differences)


def _by_curves(rivalry: Rivalry, title: str) -> tuple[Outcome, str] | None:
    """Return what the curves decide, in one word and in a sentence; None if no curve can be compared."""
    best = rivalry.best
    if best.lead is None:
        return None
    outcome = best.outcome  # over the rival where the lead is smallest, and so over all
    images, classes = RAREST[rivalry.rare][1], IN_WORDS[rivalry.frequent]
    start = f"Where {title} and its controls do equally well on {classes}, {title}"
    points, ends = abs(best.lead.points), " to ".join(signed(end) for end in best.lead.interval)
    rival = f"the best of them, “{best.arm.title}”"
    if outcome == "better":
        return outcome, f"{start} gets {points:.1f} points more of the {images} images right than {rival} ({ends})."
    if outcome == "worse":
        lost = f"{start} gets {points:.1f} points fewer of the {images} images right than {rival} ({ends})"
        return outcome, f"{lost}: the generated images do not help."
    unclear = (
        f"{start} cannot be told apart from {rival}, on {images} images ({signed(best.lead.points)} points, {ends})"
    )
    return outcome, f"{unclear}: this run does not show that the generated images help."


def _behind_zero_shot(arms: Sequence[Arm], rarest: str, treated: str, title: str) -> list[str]:
    found = {arm.name: arm.by_group for arm in arms}
    behind = []
    for group in dict.fromkeys((rarest, "all")):
        lead = subtract(found.get("zero_shot", {}).get(group), found.get(treated, {}).get(group))
        if lead is not None and lead > 0:
            behind.append(f"{group} by {lead:.1f}")
    return [f"CLIP without any training is ahead of {title} on {' and '.join(behind)} points."] if behind else []


def _without_control(arms: Sequence[Arm], groups: Sequence[Group], method: MethodReport) -> Verdict:
    headline = "This run has no control, so it cannot show what the generated images changed."
    sentences = [method.control_hint] if method.control_hint else []
    changes = compare(arms, groups, method.name, other="zero_shot")
    if changes:
        listed = ", ".join(f"{change} on {group}" for group, change in changes.items())
        sentences.append(f"Compared with zero-shot CLIP, training and generated images together change {listed}.")
    return Verdict(None, headline, tuple(sentences), "This is one seed.", {})


def signed(value: float | None) -> str:
    """Write a number with its sign, a true minus, and no sign if it rounds to zero; a dash for None."""
    if value is None:
        return "–"
    text = f"{value:+.1f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
