from collections import Counter
from pathlib import Path

import pytest

from ltgc_local.errors import ArtefactError
from ltgc_local.methods.ltgc.replies.template_1 import CUT_OFF, MAX_CHARACTERS, parse_sentence
from ltgc_local.methods.ltgc.report import LtgcReport, describe_score, describe_scorer
from ltgc_local.methods.ltgc.texts import is_unparsable
from ltgc_local.records import Score
from ltgc_local.reporting import Report, render, summarize
from ltgc_local.reporting.acceptance import Round, sum_rounds
from ltgc_local.reporting.accuracy import read_arms
from ltgc_local.reporting.provenance import judge_evidence
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Lines
from ltgc_local.runs.schemas import ModelFile
from tests.reporting.conftest import ACCURACY, gather_run, write_and_gather
from tests.reporting.run_on_disk import RunWriter, list_corpus, make_metrics, make_recipe, shipped_corpus


def test_classes_are_sorted_by_training_images_and_count_generated_ones(report: Report) -> None:
    assert [row.name for row in report.classes][:2] == ["shirt", "T-shirt"]
    assert [(row.name, row.num_train, row.shot) for row in report.tail] == [("dress", 17, "few"), ("coat", 10, "few")]
    for row, wanted in zip(report.tail, (24 - 17, 24 - 10), strict=True):
        assert row.num_generated + row.num_excluded == wanted  # K_y - M_y images were generated


def test_groups_count_classes_and_test_images(report: Report) -> None:
    assert [(g.name, g.num_classes, g.num_test) for g in report.groups] == [
        ("all", 10, 10000), ("many", 5, 5000), ("medium", 3, 3000), ("few", 2, 2000),
    ]  # fmt: skip


def test_rounds_add_up_to_the_generated_accepted_and_excluded_images(report: Report) -> None:
    rounds = sum_rounds(report.acceptance)
    assert rounds[0].drawn == 21  # 7 of dress and 14 of coat
    assert [r.drawn for r in rounds[1:]] == [r.drawn - r.accepted for r in rounds[:-1]]
    assert sum(r.accepted for r in rounds) == sum(row.num_generated for row in report.tail)
    assert rounds[-1].drawn - rounds[-1].accepted == sum(row.num_excluded for row in report.acceptance)
    assert Round(0, 0).rate is None and Round(4, 1).rate == 25


def test_rejections_are_counted_by_scorer(report: Report) -> None:
    for row in report.acceptance:
        missed = sum(r.drawn - r.accepted for r in row.rounds)
        assert row.failed == ({"percentile": missed} if missed else {})
        assert row.threshold == 0.6


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (Score(1, 0, 0, 0.7, 2, threshold=0.6), "round 0, rank 2\nS 0.700 ≥ 0.600"),
        (Score(1, 0, 1, 0.7, 4, threshold=0.6, failed=("margin",)), "round 1, rank 4 > 1\nS 0.700 ≥ 0.600"),
        (Score(1, 0, 0, 0.5, 1, threshold=0.6, failed=("percentile",)), "round 0, rank 1\nS 0.500 < 0.600"),
        (Score(1, 0, 0, 0.59996, 1, threshold=0.6, failed=("percentile",)), "round 0, rank 1\nS 0.59996 < 0.60000"),
        (Score(1, 0, 0, 0.5, 1), "round 0, rank 1"),
        (Score(1, 0, 0, None, 10, failed=("no number",)), "round 0\nCLIP gave no number"),
    ],
)
def test_a_score_is_said_in_a_caption(score: Score, words: str) -> None:
    assert describe_score(score, make_recipe(assess={"scorer": "percentile+margin"})) == words


def test_a_caption_names_no_rank_if_the_photographs_decide_it() -> None:
    score, settings = Score(1, 0, 1, 0.7, 4, failed=("margin",)), {"scorer": "margin", "margin_rank": None}
    assert describe_score(score, make_recipe(assess=settings)) == "round 1, rank 4, too low"


@pytest.mark.parametrize(
    ("nearest", "words"),
    [(0, "which are wrong"), (4, "4 of them taken for the nearest name by CLIP, the others wrong")],
)
def test_the_vlms_answers_are_an_arm_that_says_what_it_rests_on(tmp_path: Path, nearest: int, words: str) -> None:
    recipe = make_recipe(evaluate={"vlm_classifier": True})
    metrics = make_metrics(shipped_corpus(), {arm: {"all": 20.0} for arm in (*ACCURACY, "vlm_zero_shot")})
    metrics["vlm_zero_shot"] |= {"images": 200, "unnamed": 5, "nearest": nearest}
    writer = RunWriter(tmp_path, recipe, shipped_corpus())
    writer.write("classify", [Lines("answers", [])], 200)
    found = gather_run(writer.write_all(metrics), recipe, shipped_corpus())
    assert [arm.name for arm in found.arms] == ["zero_shot", "vlm_zero_shot", "control", "ltgc"]
    assert found.arms[1].title == "Vision-language model"
    assert found.arms[1].detail == f"asked for the class of 200 test images; 5 replies name none, {words}"
    assert found.arms[1].detail in render(found)


def test_the_fallback_template_is_known(report: Report) -> None:
    assert Counter(row.fallback for row in report.acceptance) == {True: 1, False: 1}


def test_unparsable_lines_are_a_share_of_all_lines(report: Report) -> None:
    dress = report.sections[0].facts["texts"][0]
    assert [dress[f"num_{each}"] for each in ("existing", "wanted", "extended", "rejected")] == [17, 7, 7, 7]
    assert dress["unparsable_share"] == pytest.approx(100 * 2 / (7 + 7))


def test_reasons_are_counted_by_stage(report: Report) -> None:
    counts = {(reason["stage"], reason["text"]): reason["count"] for reason in report.sections[0].facts["reasons"]}
    assert counts["extend", "repeats another description"] == 6
    assert counts["extend", "no beginning of it fits the CLIP tokens"] == 4
    assert counts["describe", "empty reply"] == 1
    assert ("refine", "empty reply") in counts


@pytest.mark.parametrize(
    "line", ["Sure, here you are", "A photo of the class bag.", "A photo of the class bag with {a}.", "long"]
)
def test_every_reason_of_the_parser_counts_as_unparsable(line: str) -> None:
    line = "A photo of the class bag with " + "a " * MAX_CHARACTERS if line == "long" else line
    reading = parse_sentence(line, "bag")
    assert not reading.sentence and is_unparsable(reading.reason)


def test_a_sentence_that_is_cut_off_counts_as_unparsable() -> None:
    assert is_unparsable(CUT_OFF)


def test_steps_are_found_and_timed_in_the_order_they_ran(report: Report) -> None:
    names = [timing.step for timing in report.timings]
    assert names[:4] == ["describe", "extend", "draw", "assess/template"]
    assert names.index("assess/0/refine") < names.index("assess/0/redraw") < names.index("assess/1/detect")
    assert names[-1] == "evaluate"
    assert {timing.step: timing.rate for timing in report.timings}["draw"] == 21 / 2
    assert {timing.step: timing.rate for timing in report.timings}["train/ltgc"] is None


def test_galleries_begin_with_the_rarest_and_end_chains_as_they_ended(report: Report) -> None:
    assert [gallery.row.name for gallery in report.galleries] == ["coat", "dress"]
    for gallery in report.galleries:
        assert len(gallery.real) == 6 and len(gallery.accepted) <= 6
        for chain in gallery.chains:
            assert [picture.state for picture in chain.pictures[:-1]] == ["missed"] * (len(chain.pictures) - 1)
            assert (chain.pictures[-1].state == "accepted") == (chain.outcome == "accepted")


def test_the_summary_has_the_figures_that_scripts_want(report: Report) -> None:
    summary = summarize(report)
    assert summary["accuracy"]["ltgc"]["few"] == 88.6
    assert summary["difference"]["few"]["points"] == pytest.approx(21.7)
    assert summary["verdict"]["outcome"] == "better" and summary["evidence"] == "miniature"


def test_a_run_without_assessment_and_control_is_reported(tmp_path: Path) -> None:
    recipe = make_recipe(assess={"enabled": False}, train={"control": False})
    report = write_and_gather(tmp_path, recipe, shipped_corpus(), arms=("zero_shot", "ltgc"))
    assert report.acceptance == () and report.verdict.outcome is None
    assert all(not gallery.chains and not gallery.accepted[0].state for gallery in report.galleries)


def test_a_corpus_without_tail_or_few_classes_is_reported(tmp_path: Path) -> None:
    report = write_and_gather(tmp_path, make_recipe(), list_corpus(["one", "two"], [120, 60]))
    assert report.tail == () and report.galleries == () and sum_rounds(report.acceptance) == ()
    assert report.groups[-1].num_classes == 0


def test_an_incomplete_step_is_an_error_that_names_it(tmp_path: Path) -> None:
    recipe = make_recipe()
    with pytest.raises(ArtefactError, match="leaks/compare is not complete"):
        gather_run(RunDirectory(tmp_path), recipe, shipped_corpus())


@pytest.mark.parametrize(
    ("evidence", "level", "words"),
    [
        (["real"] * 4, "real", "All models are loaded with published weights"),
        (["miniature"] * 4, "miniature", "do not reproduce the paper's numbers"),
        (["real", "real", "miniature", "miniature"], "miniature", "The text-to-image model and CLIP are miniature"),
        (["real", "random", "miniature", "real"], "random", "The language model is randomly initialised"),
        ([], "unknown", "no provenance"),
    ],
)
def test_the_banner_is_that_of_the_weakest_model(evidence: list[str], level: str, words: str) -> None:
    roles = ("vlm", "llm", "t2i", "clip")[: len(evidence)]
    found = judge_evidence(
        {role: ModelFile(card="", evidence=e, license="", digest="") for role, e in zip(roles, evidence, strict=True)}
    )
    assert found.level == level and words in found.text


@pytest.mark.parametrize(
    ("assess", "words"),
    [
        ({"scorer": "offset"}, "cosine + 0.5 with the template is at least μ = 0.8"),
        ({"scorer": "cosine", "threshold": 0.3}, "the cosine S with the template is at least μ = 0.3"),
        ({"scorer": "percentile", "percentile": 5.0}, "percentile 5 of those of the class's own"),
        ({"scorer": "margin", "margin_rank": 2}, "among the 2 closest"),
        ({"scorer": "percentile+margin", "margin_rank": 3}, "and the template is among the 3 closest"),
        ({"scorer": "margin", "margin_rank": None}, "as it does for 95 % of the class's own training images"),
    ],
)
def test_the_scorer_is_said_in_words(assess: dict[str, object], words: str) -> None:
    assert words in describe_scorer(make_recipe(assess=assess))


@pytest.mark.parametrize("mixing", ["balance_mix", "mixup", "union", "none"])
@pytest.mark.parametrize("loss", ["cross_entropy", "logit_adjustment", "balanced_softmax"])
def test_every_way_of_training_has_words_of_its_own(mixing: str, loss: str) -> None:
    def detail(**train: str) -> str:
        recipe = make_recipe(train={"control": False} | train)
        (arm,) = read_arms({"ltgc": {"per_class": {}}}, recipe, LtgcReport())
        return arm.detail

    words = detail(mixing=mixing, loss=loss)
    assert ("no generated data" in words) is (mixing == "none")
    assert (loss.replace("_", " ") in words) is (loss != "cross_entropy")
    others = {detail(mixing=other, loss=loss) for other in ("balance_mix", "mixup", "union", "none") if other != mixing}
    assert words not in others
