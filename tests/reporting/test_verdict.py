import pytest

from ltgc_local.methods.ltgc.report import LtgcReport
from ltgc_local.reporting.accuracy import Arm, Group
from ltgc_local.reporting.verdict import PRIOR, Verdict, signed, write_verdict

GROUPS = (Group("all", 10, 10000), Group("many", 5, 5000), Group("medium", 3, 3000), Group("few", 2, 2000))


def verdict_of(control: dict[str, float | None] | None, ltgc: dict[str, float | None], **zero_shot: float) -> Verdict:
    found = {"zero_shot": dict.fromkeys(("all", "many", "medium", "few"), 10.0) | zero_shot, "ltgc": ltgc}
    arms = found | ({"control": control} if control else {})
    half = 1.5  # of every interval, in points
    intervals = {
        group: (after - before - half, after - before + half)
        for group, after in ltgc.items()
        if control and after is not None and (before := control[group]) is not None
    }
    listed = [Arm(n, n, "", values, {}, intervals if n == "ltgc" else {}) for n, values in arms.items()]
    return write_verdict(listed, GROUPS, 9, LtgcReport(), "LTGC")


def groups(everything: float, many: float | None, medium: float | None, few: float | None) -> dict[str, float | None]:
    return {"all": everything, "many": many, "medium": medium, "few": few}


CONTROL = groups(75.0, 80.0, 70.0, 60.0)


def test_a_gain_on_few_is_said_to_be_better_than_the_control_with_its_points() -> None:
    verdict = verdict_of(CONTROL, groups(80.0, 80.5, 75.0, 75.0))
    assert verdict.outcome == "better"
    assert "LTGC does better than its control without generated images" in verdict.headline
    assert "75.0 % of the few-shot images right, the control 60.0 % (+15.0 points)" in verdict.headline
    assert "The head neither gains nor loses measurably" in verdict.sentences[0]
    assert "Over all test images, LTGC is better by 5.0 points (80.0 %)." in verdict.sentences
    assert PRIOR not in verdict.sentences


def test_a_gain_whose_interval_holds_zero_is_no_help() -> None:
    verdict = verdict_of(CONTROL, groups(75.1, 80.0, 70.0, 61.0))  # on few from -0.5 to +2.5 points
    assert verdict.outcome == "unclear"
    assert "LTGC cannot be told apart from its control" in verdict.headline
    assert "(+1.0 points)" in verdict.headline
    assert "Over all test images, the two cannot be told apart (+0.1 points)." in verdict.sentences


def test_a_loss_on_few_is_said_to_be_worse_than_the_control() -> None:
    verdict = verdict_of(CONTROL, groups(73.0, 80.0, 70.0, 50.0))
    assert verdict.outcome == "worse"
    assert "LTGC does worse than its control" in verdict.headline and "(−10.0 points)" in verdict.headline
    assert "Over all test images, LTGC is worse by 2.0 points (73.0 %)." in verdict.sentences


def test_few_that_gains_what_the_head_loses_is_not_credited_to_the_generated_images() -> None:
    verdict = verdict_of(CONTROL, groups(76.0, 76.0, 75.0, 75.0))
    assert "does better than its control" in verdict.headline
    loss = "The head loses: accuracy on many-shot classes goes from 80.0 to 76.0 % (−4.0 points)."
    assert verdict.sentences[:2] == (loss, PRIOR)
    assert "a shift of the class prior" in PRIOR


def test_zero_shot_ahead_of_ltgc_is_said() -> None:
    verdict = verdict_of(CONTROL, groups(76.0, 76.0, 75.0, 75.0), few=80.0, all=50.0)
    assert "CLIP without any training is ahead of LTGC on few by 5.0 points." in verdict.sentences


def test_a_benchmark_without_few_is_judged_on_its_rarest_group() -> None:
    verdict = verdict_of(groups(75.0, 80.0, 70.0, None), groups(80.0, 80.0, 80.0, None))
    assert "rarest classes there are, medium-shot" in verdict.headline
    assert "few" not in verdict.differences


def test_without_a_control_nothing_is_claimed() -> None:
    verdict = verdict_of(None, groups(80.0, 80.0, 80.0, 80.0))
    assert verdict.outcome is None and not verdict.differences
    assert "cannot show what the generated images changed" in verdict.headline
    assert "+70.0 points on few" in " ".join(verdict.sentences)


@pytest.mark.parametrize(
    ("value", "text"), [(1.25, "+1.2"), (-3.0, "−3.0"), (0.0, "0.0"), (-0.04, "0.0"), (0.04, "0.0")]
)
def test_signs_are_true_minuses_and_zero_has_none(value: float, text: str) -> None:
    assert signed(value) == text
