"""The run in plain words, from its numbers alone: how the method compares with its control without generated images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ltgc_local.reporting.accuracy import Arm, Group, subtract
from ltgc_local.reporting.reported import MethodReport

Outcome = Literal["better", "unclear", "worse"]
WORDS = {"few": "few-shot", "medium": "medium-shot", "many": "many-shot", "all": "test", "tail": "tail"}
#: What the verdict is on: the first of these groups that there is.
RAREST = ("tail", "few", "medium", "many", "all")
#: Said where rare classes gain what frequent ones lose.
PRIOR = (
    "A gain on rare classes together with a loss on frequent ones can be a shift of the class prior, which needs no "
    "generated images: compare with a control that adjusts the prior, such as logit adjustment."
)


@dataclass(frozen=True)
class Difference:
    """One arm minus another on one group, in points; ``interval`` is paired by test image, None where unknown."""

    group: str
    points: float
    before: float
    after: float
    interval: tuple[float, float] | None = None

    @property
    def outcome(self) -> Outcome:
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "unclear"
        return "better" if self.points > 0 else "worse"


@dataclass(frozen=True)
class Verdict:
    """One sentence to remember, the sentences that qualify it, and the differences both are made of."""

    outcome: Outcome | None  # on the rarest group; None where there is no control to compare with
    headline: str
    sentences: tuple[str, ...]
    caveat: str
    differences: Mapping[str, Difference]


def compare(arms: Sequence[Arm], groups: Sequence[Group], one: str, other: str = "control") -> list[Difference]:
    """Return how far ``one`` is from ``other`` on every group that both were measured on."""
    found = {arm.name: arm for arm in arms}
    if one not in found or other not in found:
        return []
    differences = []
    for group in groups:
        after, before = found[one].by_group[group.name], found[other].by_group[group.name]
        points = subtract(after, before)
        if after is not None and before is not None and points is not None:
            interval = found[one].minus_control.get(group.name) if other == "control" else None
            differences.append(Difference(group.name, points, before, after, interval))
    return differences


def write_verdict(
    arms: Sequence[Arm], groups: Sequence[Group], num_generated: int, method: MethodReport, title: str
) -> Verdict:
    """Say by how much the method differs from its control, and whether the test images can tell them apart."""
    differences = {difference.group: difference for difference in compare(arms, groups, method.name)}
    if not differences:
        return _without_control(arms, groups, method)
    rarest = next(differences[name] for name in RAREST if name in differences)
    sentences = []
    if num_generated == 0:
        sentences.append(f"No generated image was accepted: {title} had nothing to train on but the originals.")
    frequent, classes = ("head", "head classes") if rarest.group == "tail" else ("many", "many-shot classes")
    if rarest.group != "many" and frequent in differences:
        sentences.append(_on_the_head(differences[frequent], classes))
        if (rarest.outcome, differences[frequent].outcome) == ("better", "worse"):
            sentences.append(PRIOR)
    if rarest.group not in ("tail", "medium") and "medium" in differences:
        sentences.append(f"On medium-shot classes the difference is {_points(differences['medium'])}.")
    if rarest.group != "all" and "all" in differences:
        sentences.append(_overall(differences["all"], title))
    sentences += _against_zero_shot(arms, rarest.group, method.name, title)
    caveat = (
        "This is one seed. The intervals cover the choice of test images only, paired image by image; the spread over "
        "seeds comes on top, and --seeds 3 measures it."
    )
    return Verdict(rarest.outcome, _headline(rarest, title), tuple(sentences), caveat, differences)


def _headline(rarest: Difference, title: str) -> str:
    where = {
        "tail": "On the tail classes",
        "few": "On the rare classes",
        "medium": "On the rarest classes there are, medium-shot",
    }.get(rarest.group, "There are no rare classes; on those there are")
    what = {"better": "does better than", "worse": "does worse than", "unclear": "cannot be told apart from"}
    return (
        f"{where}, {title} {what[rarest.outcome]} its control without generated images: it gets {rarest.after:.1f} % "
        f"of the {WORDS[rarest.group]} images right, the control {rarest.before:.1f} % ({_points(rarest)})."
    )


def _on_the_head(many: Difference, classes: str) -> str:
    values = f"accuracy on {classes} goes from {many.before:.1f} to {many.after:.1f} % ({_points(many)})"
    if many.outcome == "worse":
        return f"The head loses: {values}."
    if many.outcome == "better":
        return f"The head gains as well: {values}."
    return f"The head neither gains nor loses measurably: {values}."


def _overall(overall: Difference, title: str) -> str:
    if overall.outcome == "unclear":
        return f"Over all test images, the two cannot be told apart ({_points(overall)})."
    word = "better" if overall.outcome == "better" else "worse"
    return f"Over all test images, {title} is {word} by {abs(overall.points):.1f} points ({overall.after:.1f} %)."


def _against_zero_shot(arms: Sequence[Arm], rarest: str, treated: str, title: str) -> list[str]:
    found = {arm.name: arm.by_group for arm in arms}
    behind = []
    for group in dict.fromkeys((rarest, "all")):
        lead = subtract(found.get("zero_shot", {}).get(group), found.get(treated, {}).get(group))
        if lead is not None and lead > 0:
            behind.append(f"{group} by {lead:.1f}")
    return [f"CLIP without any training is ahead of {title} on {' and '.join(behind)} points."] if behind else []


def _without_control(arms: Sequence[Arm], groups: Sequence[Group], method: MethodReport) -> Verdict:
    changes = compare(arms, groups, method.name, other="zero_shot")
    headline = "This run has no control, so it cannot show what the generated images changed."
    sentences = [method.control_hint] if method.control_hint else []
    if changes:
        listed = ", ".join(f"{_points(change)} on {change.group}" for change in changes)
        sentences.append(f"Compared with zero-shot CLIP, training and generated images together change {listed}.")
    return Verdict(None, headline, tuple(sentences), "This is one seed.", {})


def _points(difference: Difference) -> str:
    return signed(difference.points) + " points"


def signed(value: float, digits: int = 1) -> str:
    """Write a number with its sign, a true minus, and no sign on what rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
