"""The scorers, by hand: thresholds met exactly, ties, classes with one real image or none, no score."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from ltgc_local.methods.ltgc.scorers import ClassScorer, explain, percentile_of, rank_among, ranks_among
from ltgc_local.recipe.generation import Scorer
from ltgc_local.records import Score

# Three images of class 1 among classes 0, 1, 2: cosines with their own template 0.25, 0.5 and -0.5.
COSINES = np.array([[0.125, 0.25, 0.0], [0.75, 0.5, 0.625], [-0.25, -0.5, -0.5]], dtype=np.float32)
NAMES = ("bag", "coat", "boot")


def scorer(
    make_recipe: Any, *overrides: str, own: tuple[float, ...] = (), ranks: tuple[int, ...] = (), class_id: int = 1
) -> ClassScorer:
    recipe = make_recipe(*(f"assess.{override}" for override in overrides))
    return ClassScorer(recipe.assess, class_id, np.sort(np.array(own)), np.sort(np.array(ranks, dtype=np.int64)))


def judged(make_recipe: Any, *overrides: str, own: tuple[float, ...] = ()) -> list[Score]:
    judge = scorer(make_recipe, *overrides, own=own)
    return [judge.score((1, i, 0), row) for i, row in enumerate(COSINES)]


def test_offset_compares_cosine_and_a_half_with_mu_as_the_released_code(make_recipe: Any) -> None:
    # 0.75, 1.0 and 0.0 against 0.75: at the threshold an image passes.
    found = judged(make_recipe, "scorer=offset", "threshold=0.75")
    assert [s.accepted for s in found] == [True, True, False]
    assert [s.threshold for s in found] == [0.25] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("mu", "cosine", "accepted"),
    [(0.8, 0.3, True), (0.8, 0.2999, False), (0.6, 0.1, True), (0.6, 0.0999, False), (0.5, 0.0, True)],
)
def test_the_papers_thresholds_are_cosines_of_three_tenths_and_one_tenth(
    make_recipe: Any, dtype: Any, mu: float, cosine: float, accepted: bool
) -> None:
    judge = scorer(make_recipe, "scorer=offset", f"threshold={mu}", class_id=0)
    assert judge.score((0, 0, 0), np.array([cosine], dtype=dtype)).accepted is accepted


def test_cosine_compares_the_raw_cosine(make_recipe: Any) -> None:
    found = judged(make_recipe, "scorer=cosine", "threshold=0.25")
    assert [(s.cosine, s.accepted) for s in found] == [(0.25, True), (0.5, True), (-0.5, False)]


@pytest.mark.parametrize(
    ("percentile", "own", "threshold", "accepted"),
    [
        (0, (0.5, 0.0, 0.25), 0.0, [True, True, False]),
        (50, (0.5, 0.0, 0.25), 0.25, [True, True, False]),  # at it, an image passes
        (75, (0.5, 0.0, 0.25), 0.375, [False, True, False]),  # half way between 0.25 and 0.5
        (100, (0.5, 0.0, 0.25), 0.5, [False, True, False]),
        (50, (0.25, 0.25, 0.25, 0.75), 0.25, [True, True, False]),  # ties
        (5, (0.375,), 0.375, [False, True, False]),  # a single image is every percentile
        (95, (0.375,), 0.375, [False, True, False]),
    ],
)
def test_percentile_compares_with_the_classs_own_images(
    make_recipe: Any, percentile: int, own: tuple[float, ...], threshold: float, accepted: list[bool]
) -> None:
    found = judged(make_recipe, "scorer=percentile", f"percentile={percentile}", own=own)
    assert [s.threshold for s in found] == pytest.approx([threshold] * 3)
    assert [s.accepted for s in found] == accepted


@pytest.mark.parametrize(
    ("cosine", "own", "expected"),
    [
        (0.3, (), None),
        (0.3, (0.3,), 100), (0.29, (0.3,), 0),
        (-1, (0.0, 0.25, 0.5), 0), (0.0, (0.0, 0.25, 0.5), 0), (0.125, (0.0, 0.25, 0.5), 25),
        (0.25, (0.0, 0.25, 0.5), 50), (0.375, (0.0, 0.25, 0.5), 75), (0.5, (0.0, 0.25, 0.5), 100), (1, (0.0, 0.5), 100),
        (0.25, (0.0, 0.25, 0.25, 0.25, 0.5), 75),  # of equal values the highest place: the third of 0 to 4
        (0.25, (0.25, 0.25), 100), (0.24, (0.25, 0.25), 0),
    ],
)  # fmt: skip
def test_the_percentile_of_a_cosine(cosine: float, own: tuple[float, ...], expected: float | None) -> None:
    assert percentile_of(cosine, np.array(own)) == (None if expected is None else pytest.approx(expected))


def test_the_percentile_of_a_cosine_is_the_inverse_of_numpys() -> None:
    own = np.sort(np.random.default_rng(0).normal(size=17))
    for percentile in (0, 3, 5, 50, 62.5, 99, 100):
        assert percentile_of(float(np.percentile(own, percentile)), own) == pytest.approx(percentile)


@pytest.mark.parametrize(
    ("rank", "accepted"), [(1, [True, False, False]), (2, [True, False, True]), (3, [True, True, True])]
)
def test_margin_asks_for_a_rank_among_the_classes(make_recipe: Any, rank: int, accepted: list[bool]) -> None:
    # Of image 0 no other class is closer; of image 1 both are; of image 2 one is and one ties, which does not count.
    found = judged(make_recipe, "scorer=margin", f"margin_rank={rank}")
    assert [s.rank for s in found] == [1, 3, 2]
    assert [s.accepted for s in found] == accepted
    assert [s.threshold for s in found] == [None] * 3
    assert [(s.best_other, s.best_other_cosine) for s in found] == [(0, 0.125), (0, 0.75), (0, -0.25)]


@pytest.mark.parametrize(
    ("percentile", "ranks", "expected"),
    [
        (5, (), 1),  # no image to go by
        (5, (4,), 4),
        (5, (1, 1, 7), 7),  # 95 % of 3 is 2.85: all three
        (5, (*range(1, 20), 99), 19),  # 95 % of 20 is 19 images, and the outlier is left out
        (5, (*range(1, 19), 99), 99),  # 95 % of 19 is 18.05: all of them
        (50, (9, 2, 5, 2), 2),  # two of four are within the first two
        (50, (9, 2, 5), 5),
        (0, (3, 8000, 1), 8000),
        (100, (3, 8000, 2), 2),  # at least one image
    ],
)
def test_null_takes_the_rank_that_most_of_the_classs_own_images_reach(
    make_recipe: Any, percentile: int, ranks: tuple[int, ...], expected: int
) -> None:
    asked = ("scorer=margin", "margin_rank=null", f"percentile={percentile}")
    assert scorer(make_recipe, *asked, own=(0.5,) * len(ranks), ranks=ranks).margin_rank == expected
    assert scorer(make_recipe, *asked[::2], "margin_rank=3", own=(0.5,) * len(ranks), ranks=ranks).margin_rank == 3


@pytest.mark.parametrize(("ranks", "accepted"), [((), [True, False, False]), ((2, 1), [True, False, True])])
def test_an_image_must_reach_the_rank_of_its_classs_own_images(
    make_recipe: Any, ranks: tuple[int, ...], accepted: list[bool]
) -> None:
    # The three images have ranks 1, 3 and 2.
    judge = scorer(make_recipe, "scorer=margin", "margin_rank=null", own=(0.5,) * len(ranks), ranks=ranks)
    assert [judge.score((1, i, 0), row).accepted for i, row in enumerate(COSINES)] == accepted


def test_the_ranks_of_many_images_are_those_of_each() -> None:
    assert ranks_among(COSINES, 1).tolist() == [1, 3, 2]
    ties = np.random.default_rng(0).integers(0, 5, size=(50, 7)) / 8
    for class_id in range(7):
        assert ranks_among(ties, class_id).tolist() == [rank_among(row, class_id)[0] for row in ties]


def test_equal_templates_do_not_push_each_other_down(make_recipe: Any) -> None:
    judge = scorer(make_recipe, "scorer=margin", class_id=2)
    found = judge.score((2, 0, 0), np.array([0.5, 0.5, 0.5]))
    assert (found.rank, found.accepted, found.best_other) == (1, True, 0)


def test_a_single_class_is_always_first_and_has_no_other(make_recipe: Any) -> None:
    found = scorer(make_recipe, "scorer=margin", class_id=0).score((0, 0, 0), np.array([0.5]))
    assert (found.rank, found.best_other, found.best_other_cosine, found.accepted) == (1, None, None, True)


def test_several_scorers_must_all_pass_and_each_that_fails_is_named(make_recipe: Any) -> None:
    asked = ("scorer=cosine+percentile+margin", "threshold=0.3", "percentile=50", "margin_rank=2")
    found = judged(make_recipe, *asked, own=(0.5, 0.5))
    assert [s.failed for s in found] == [("cosine", "percentile"), ("margin",), ("cosine", "percentile")]
    assert [s.threshold for s in found] == [0.5] * 3  # the higher of 0.3 and 0.5


@pytest.mark.parametrize("asked", get_args(Scorer))
def test_every_scorer_measures_the_same(make_recipe: Any, asked: str) -> None:
    own = (0.0, 0.25, 0.5)
    found = judged(make_recipe, f"scorer={asked}", own=own)
    assert [(s.cosine, s.rank, s.best_other, s.percentile) for s in found] == [
        (0.25, 1, 0, 50.0), (0.5, 3, 0, 100.0), (-0.5, 2, 0, 0.0),
    ]  # fmt: skip
    names = asked.split("+")
    assert all(set(s.failed) <= set(names) for s in found)
    one_by_one = [judged(make_recipe, f"scorer={name}", own=own) for name in names]
    assert [s.accepted for s in found] == [all(s.accepted for s in each) for each in zip(*one_by_one, strict=True)]


@pytest.mark.parametrize("asked", ["percentile", "percentile+margin"])
def test_without_real_images_the_rank_decides_instead_of_the_percentile(make_recipe: Any, asked: str) -> None:
    found = judged(make_recipe, f"scorer={asked}", "margin_rank=2")
    assert [s.failed for s in found] == [(), ("margin",), ()]
    assert [(s.percentile, s.threshold) for s in found] == [(None, None)] * 3


@pytest.mark.parametrize("asked", get_args(Scorer))
def test_an_image_without_a_score_is_rejected_by_every_scorer(make_recipe: Any, asked: str) -> None:
    judge = scorer(make_recipe, f"scorer={asked}", "percentile=0", "margin_rank=3", "threshold=-1", own=(0.1,))
    for row in ([0.1, np.nan, 0.2], [np.nan] * 3, [np.nan, 0.9, 0.1]):
        found = judge.score((1, 0, 0), np.array(row))
        assert (found.accepted, found.failed, found.cosine) == (False, ("no number",), None)
        assert "NaN" not in found.to_json()
        assert explain(found, judge.settings, NAMES) == "CLIP gave no number"


def test_a_refusal_is_explained_with_its_values(make_recipe: Any) -> None:
    asked = ("scorer=offset+percentile+margin", "threshold=0.8", "percentile=50", "margin_rank=1")
    judge = scorer(make_recipe, *asked, own=(0.75,))
    first, second, _ = (judge.score((1, i, 0), row) for i, row in enumerate(COSINES))
    assert explain(first, judge.settings, NAMES) == (
        "cosine 0.250 + 0.5 is below 0.8; cosine 0.250 is below percentile 50 of the photographs'"
    )
    assert explain(second, judge.settings, NAMES) == (
        "cosine 0.500 is below percentile 50 of the photographs'; rank 3 is not in the first 1, closest to 'bag'"
    )


def test_a_refusal_by_the_rank_of_the_photographs_is_explained_without_a_number(make_recipe: Any) -> None:
    judge = scorer(make_recipe, "scorer=margin", "margin_rank=null", "percentile=5", own=(0.75,), ranks=(2,))
    assert explain(judge.score((1, 1, 0), COSINES[1]), judge.settings, NAMES) == (
        "rank 3 is below that of 95 % of the photographs, closest to 'bag'"
    )


def test_an_accepted_image_needs_no_explanation(make_recipe: Any) -> None:
    judge = scorer(make_recipe, "scorer=cosine", "threshold=0.1")
    assert explain(judge.score((1, 0, 0), COSINES[0]), judge.settings, NAMES) == ""
